#include "CToml.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

/* toml++ 3.3 asserts what files can break ("[.a]"), and in a release build lets the compiler assume
   it. Here a broken assertion is a syntax error, in every build. */
namespace {
struct BrokenAssertion {};
}  // namespace
#undef NDEBUG
#define TOML_ASSERT(expr) ((expr) ? (void)0 : throw BrokenAssertion{})
#include <toml++/toml.h>

namespace {
struct Entry {
  std::string path, text;
  char kind;
  uint32_t line;
};

/* A key that a path could not hold. */
struct BadKey {
  std::string name;
  uint32_t line;
};

bool is_bare(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

template <typename Value>
std::string print(const Value &value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

void walk(const toml::node &node, const std::string &path, std::vector<Entry> &entries) {
  auto line = static_cast<uint32_t>(node.source().begin.line);
  if (auto table = node.as_table()) {
    if (!path.empty()) entries.push_back({path, "", 't', line});
    for (auto &&[key, value] : *table) {
      if (!is_bare(key.str()))
        throw BadKey{std::string(key.str()), static_cast<uint32_t>(key.source().begin.line)};
      std::string name(key.str());
      walk(value, path.empty() ? name : path + "." + name, entries);
    }
  } else if (auto array = node.as_array()) {
    entries.push_back({path, "", 'a', line});
    size_t index = 0;
    for (auto &&value : *array) walk(value, path + "[" + std::to_string(index++) + "]", entries);
  } else if (auto text = node.as_string()) {
    entries.push_back({path, text->get(), 's', line});
  } else if (auto integer = node.as_integer()) {
    entries.push_back({path, std::to_string(integer->get()), 'i', line});
  } else if (auto real = node.as_floating_point()) {
    char digits[64];
    std::snprintf(digits, sizeof digits, "%.17g", real->get());
    entries.push_back({path, digits, 'f', line});
  } else if (auto boolean = node.as_boolean()) {
    entries.push_back({path, boolean->get() ? "true" : "false", 'b', line});
  } else {
    std::string text;
    if (auto date = node.as_date()) text = print(date->get());
    if (auto time = node.as_time()) text = print(time->get());
    if (auto both = node.as_date_time()) text = print(both->get());
    entries.push_back({path, text, 'd', line});
  }
}

void copy(std::string_view text, char *message, size_t capacity) {
  if (capacity == 0) return;
  size_t length = std::min(text.size(), capacity - 1);
  std::memcpy(message, text.data(), length);
  message[length] = 0;
}
}  // namespace

struct cairn_toml_document {
  std::vector<Entry> entries;
};

cairn_toml_document *cairn_toml_parse(
    const char *bytes, size_t count, char *message, size_t message_capacity, uint32_t *line) {
  auto document = new cairn_toml_document();
  *line = 0;
  try {
    auto table = toml::parse(std::string_view(bytes, count));
    walk(table, "", document->entries);
    return document;
  } catch (const toml::parse_error &error) {
    copy(error.description(), message, message_capacity);
    *line = static_cast<uint32_t>(error.source().begin.line);
  } catch (const BrokenAssertion &) {
    copy("not TOML", message, message_capacity);
    *line = 0;
  } catch (const BadKey &key) {
    copy("key '" + key.name + "' has characters other than letters, digits, _ and -", message,
         message_capacity);
    *line = key.line;
  }
  delete document;
  return nullptr;
}

size_t cairn_toml_count(const cairn_toml_document *document) { return document->entries.size(); }

cairn_toml_entry cairn_toml_entry_at(const cairn_toml_document *document, size_t index) {
  const Entry &entry = document->entries[index];
  return {entry.path.c_str(), entry.text.data(), entry.text.size(), entry.kind, entry.line};
}

void cairn_toml_free(cairn_toml_document *document) { delete document; }
