/* toml++ behind a flat C surface: a document becomes a list of (path, kind, text, line). */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cairn_toml_document cairn_toml_document;

/* One leaf value. `path` joins table keys and array indices with dots ("node.device.0.path").
   kind: 's' string, 'i' integer, 'f' float, 'b' boolean, 'd' date or time,
   't' empty table, 'a' empty array. */
typedef struct {
  const char *path;
  const char *text;
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
