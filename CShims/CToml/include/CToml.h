/* toml++ behind a flat C surface: a document becomes a list of (path, kind, text, line). */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cairn_toml_document cairn_toml_document;

/* One value. `path` joins keys with dots and marks array elements: "node.device[0].path". Only bare
   keys (letters, digits, '_', '-') are accepted, so a path has one meaning.
   kind: 's' string, 'i' integer, 'f' float, 'b' boolean, 'd' date or time,
   't' a table, 'a' an array: both come before what is in them.
   `text` is the value in decimal, "true"/"false", or the string itself (text_count bytes, which may
   hold zeros); empty for 't' and 'a'. Lines count from 1. Pointers live as long as the document. */
typedef struct {
  const char *path;
  const char *text;
  size_t text_count;
  char kind;
  uint32_t line;
} cairn_toml_entry;

/* Returns NULL on a syntax error and then writes a message (NUL-terminated, cut to fit) and line. */
cairn_toml_document *cairn_toml_parse(
    const char *bytes, size_t count, char *message, size_t message_capacity, uint32_t *line);
size_t cairn_toml_count(const cairn_toml_document *document);
cairn_toml_entry cairn_toml_entry_at(const cairn_toml_document *document, size_t index);
void cairn_toml_free(cairn_toml_document *document);

#ifdef __cplusplus
}
#endif
