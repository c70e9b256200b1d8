// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_index.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

using Json = nlohmann::json;

template <class... Parts>
[[noreturn]] void refuse_index(std::string_view file_name, const Parts&... parts) {
  throw DataError(concat("safetensors index '", file_name, "': ", parts...));
}

bool is_number(std::string_view digits) {
  return digits.size() >= 5 && digits.size() <= 9 &&
         digits.find_first_not_of("0123456789") == std::string_view::npos;
}

// A file's name as it can be in any folder: no path, no hidden file, nothing that doesn't print.
bool is_stem(std::string_view stem) {
  const auto is_plain = [](char letter) {
    return static_cast<unsigned char>(letter) >= ' ' && letter != '\x7F' && letter != '/' &&
           letter != '\\' && letter != ':';
  };
  return !stem.empty() && stem.size() <= 200 && stem.front() != '.' &&
         stem.find("..") == std::string_view::npos &&
         std::all_of(stem.begin(), stem.end(), is_plain);
}

/// <stem>-<number>-of-<count>.safetensors, taken apart.
struct ShardName {
  std::string_view stem;
  std::string_view number;
  std::string_view count;

  static std::optional<ShardName> of(std::string_view name) {
    constexpr std::string_view kEnding = ".safetensors";
    if (!name.ends_with(kEnding)) return std::nullopt;
    name.remove_suffix(kEnding.size());
    const std::size_t of = name.rfind("-of-");
    if (of == std::string_view::npos) return std::nullopt;
    const std::size_t dash = name.substr(0, of).rfind('-');
    if (dash == std::string_view::npos) return std::nullopt;
    const ShardName parts{name.substr(0, dash), name.substr(dash + 1, of - dash - 1),
                          name.substr(of + 4)};
    if (!is_stem(parts.stem) || !is_number(parts.number) || !is_number(parts.count)) {
      return std::nullopt;
    }
    const unsigned long number = std::stoul(std::string(parts.number));
    if (number == 0 || number > std::stoul(std::string(parts.count))) return std::nullopt;
    return parts;
  }
};

/// Takes the index as it is read; of what it doesn't look at, nothing is kept.
class IndexReader final : public nlohmann::json_sax<Json> {
 public:
  explicit IndexReader(std::string_view file_name) : file_name_(file_name) {}

  SafetensorsIndex take();

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("true or false"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("bytes"); }
  bool string(string_t& text) override;
  bool key(string_t& name) override;
  bool start_object(std::size_t) override;
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override;
  bool end_array() override { return leave(); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override;

 private:
  bool value(std::string_view what);
  bool leave();
  std::size_t shard_of(const std::string& name);

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    refuse_index(file_name_, parts...);
  }

  std::string_view file_name_;
  SafetensorsIndex index_;
  std::map<std::string, std::size_t, std::less<>> shards_;
  std::size_t depth_ = 0;     // objects and arrays that are open
  bool has_map_ = false;      // "weight_map" was read
  bool is_map_next_ = false;  // its value comes now
  bool is_in_map_ = false;
};

bool IndexReader::value(std::string_view what) {
  if (depth_ == 0) fail("it is ", what, ", expected an object with a weight_map; write it again.");
  if (is_map_next_) fail("its weight_map is ", what, ", expected an object; write it again.");
  if (is_in_map_) {
    fail("tensor '", shown(index_.tensors.back().name), "' has ", what,
         ", expected the name of a file; write it again.");
  }
  return true;
}

bool IndexReader::string(string_t& text) {
  if (!is_in_map_) return value("a text");
  index_.tensors.back().shard = shard_of(text);
  return true;
}

bool IndexReader::key(string_t& name) {
  if (is_in_map_) {
    if (name.size() > SafetensorsLimits::kNameBytes) {
      fail("a name has ", name.size(), " bytes ('", shown(name), "'), expected at most ",
           SafetensorsLimits::kNameBytes, "; give that tensor a shorter name.");
    }
    if (index_.tensors.size() == SafetensorsLimits::kTensors) {
      fail("it has more tensors than ", SafetensorsLimits::kTensors,
           ", expected at most that many; split the model.");
    }
    index_.tensors.push_back({std::move(name), 0});
  } else if (depth_ == 1) {
    is_map_next_ = name == "weight_map";
    if (is_map_next_ && has_map_) {
      fail("its weight_map is there twice, expected once; write it again.");
    }
    has_map_ = has_map_ || is_map_next_;
  }
  return true;
}

bool IndexReader::start_object(std::size_t) {
  if (is_in_map_) value("an object");
  is_in_map_ = std::exchange(is_map_next_, false);
  ++depth_;
  return true;
}

bool IndexReader::start_array(std::size_t) {
  value("an array");
  ++depth_;
  return true;
}

// The map holds nothing that opens, so that it is the map that ends.
bool IndexReader::leave() {
  is_in_map_ = false;
  --depth_;
  return true;
}

std::size_t IndexReader::shard_of(const std::string& name) {
  const auto known = shards_.find(name);
  if (known != shards_.end()) return known->second;
  const auto refuse = [&](std::string_view expected) {
    fail("tensor '", shown(index_.tensors.back().name), "' is in '", shown(name), "', expected ",
         expected, "; write it again.");
  };
  const std::optional<ShardName> parts = ShardName::of(name);
  if (!parts) refuse("a file of this folder named as model-00001-of-00002.safetensors");
  if (!index_.shards.empty()) {
    const std::optional<ShardName> first = ShardName::of(index_.shards.front());
    if (first->stem != parts->stem || first->count != parts->count) {
      refuse(concat("the stem and count of '", shown(index_.shards.front()), "'"));
    }
  }
  index_.shards.push_back(name);
  return shards_.emplace(name, index_.shards.size() - 1).first->second;
}

bool IndexReader::parse_error(std::size_t position, const std::string&,
                              const nlohmann::detail::exception& error) {
  std::string_view reason = error.what();
  const std::size_t found = reason.find("syntax error");
  if (found != std::string_view::npos) reason.remove_prefix(found);
  fail("offset ", position - (position > 0 ? 1 : 0), ": it is not JSON (", shown(reason),
       "), expected an object with a weight_map; download or copy the file again.");
}

SafetensorsIndex IndexReader::take() {
  if (!has_map_) fail("it has no weight_map, expected an object of that name; write it again.");
  std::vector<std::string_view> names;
  names.reserve(index_.tensors.size());
  for (const auto& tensor : index_.tensors) names.emplace_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    fail("tensor '", shown(*twice), "' is there twice, expected once; write it again.");
  }
  return std::move(index_);
}

// What the JSON reader would keep whole, or take for the end.
void check_pieces(std::string_view json, std::string_view file_name) {
  const std::size_t zero = json.find('\0');
  if (zero != std::string_view::npos) {
    refuse_index(file_name, "offset ", zero,
                 ": it has a zero byte, expected text; download or copy the file again.");
  }
  bool is_in_text = false;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < json.size(); ++at) {
    const char letter = json[at];
    if (is_in_text && letter == '\\') {
      ++at;
    } else if (letter == '"') {
      is_in_text = !is_in_text;
      begin = at;
    } else if (!is_in_text && std::string_view(",:[]{}").find(letter) != std::string_view::npos) {
      begin = at;
    }
    if (at - begin > SafetensorsLimits::kTextBytes) {
      refuse_index(file_name, "offset ", begin, ": a text, number or space begins of more than ",
                   SafetensorsLimits::kTextBytes, " bytes, expected at most that; write it again.");
    }
  }
}

}  // namespace

SafetensorsIndex parse_safetensors_index(std::string_view json, std::string_view file_name) {
  if (json.size() > kSafetensorsIndexBytes) {
    refuse_index(file_name, "it holds ", json.size(), " bytes, expected at most ",
                 kSafetensorsIndexBytes, "; give the index of a sharded model.");
  }
  json = json.substr(std::min(json.find_first_not_of(" \t\r\n"), json.size()));
  json = json.substr(0, json.find_last_not_of(" \t\r\n") + 1);
  if (json.empty() || json.front() != '{') {  // the JSON reader would skip a byte order mark
    refuse_index(file_name, "it begins with '", shown(json.substr(0, 1)),
                 "', expected '{'; give the index of a sharded model.");
  }
  check_pieces(json, file_name);
  IndexReader reader(file_name);
  Json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

}  // namespace torch_accelerated
