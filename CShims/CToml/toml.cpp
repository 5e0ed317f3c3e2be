#include "CToml.h"

#include <cstring>
#include <sstream>
#include <string>
#include <vector>
#include <toml++/toml.h>

namespace {
struct Leaf {
  std::string path, text;
  char kind;
  uint32_t line;
};

std::string print(const toml::node &node) {
  std::ostringstream out;
  node.visit([&](auto &&value) { out << value; });
  return out.str();
}

void walk(const toml::node &node, const std::string &path, std::vector<Leaf> &leaves) {
  auto line = static_cast<uint32_t>(node.source().begin.line);
  if (auto table = node.as_table()) {
    if (table->empty() && !path.empty()) leaves.push_back({path, "", 't', line});
    for (auto &&[key, value] : *table) {
      std::string name(key.str());
      walk(value, path.empty() ? name : path + "." + name, leaves);
    }
  } else if (auto array = node.as_array()) {
    if (array->empty()) leaves.push_back({path, "", 'a', line});
    size_t index = 0;
    for (auto &&value : *array) walk(value, path + "." + std::to_string(index++), leaves);
  } else if (auto text = node.as_string()) {
    leaves.push_back({path, text->get(), 's', line});
  } else {
    char kind = node.is_integer() ? 'i' : node.is_floating_point() ? 'f' : node.is_boolean() ? 'b' : 'd';
    leaves.push_back({path, print(node), kind, line});
  }
}
}  // namespace

struct cairn_toml_document {
  std::vector<Leaf> leaves;
};

cairn_toml_document *cairn_toml_parse(
    const char *bytes, size_t count, char *message, size_t message_capacity, uint32_t *line) {
  try {
    auto table = toml::parse(std::string_view(bytes, count));
    auto document = new cairn_toml_document();
    walk(table, "", document->leaves);
    return document;
  } catch (const toml::parse_error &error) {
    std::string text(error.description());
    if (message_capacity > 0) {
      size_t length = std::min(text.size(), message_capacity - 1);
      std::memcpy(message, text.data(), length);
      message[length] = 0;
    }
    *line = static_cast<uint32_t>(error.source().begin.line);
    return nullptr;
  }
}

size_t cairn_toml_count(const cairn_toml_document *document) { return document->leaves.size(); }

cairn_toml_entry cairn_toml_entry_at(const cairn_toml_document *document, size_t index) {
  const Leaf &leaf = document->leaves[index];
  return {leaf.path.c_str(), leaf.text.c_str(), leaf.kind, leaf.line};
}

void cairn_toml_free(cairn_toml_document *document) { delete document; }
