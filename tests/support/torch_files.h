// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/stored_zip_files.h"

namespace torch_accelerated::testing {

/// A file that real PyTorch wrote (tests/reference/torch_files.py).
inline std::string golden_file(const std::string& name) {
  const auto tests = std::filesystem::path(__FILE__).parent_path().parent_path();
  const auto path = tests / "checkpoint" / "golden" / name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("can't read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Pickle's instruction for a text.
inline std::string pickled_text(std::string_view text) {
  std::string result = "X";
  append_number(result, text.size(), 4);
  return result.append(text);
}

/// Pickle's instructions for a whole number.
inline std::string pickled_number(std::int64_t number) {
  std::string result = "\x8A\x08";
  append_number(result, static_cast<std::uint64_t>(number), 8);
  return result;
}

inline std::string pickled_numbers(const std::vector<std::int64_t>& numbers) {
  std::string result = "(";
  for (std::int64_t number : numbers) result += pickled_number(number);
  return result + "t";
}

/// A tensor as torch.save notes it.
struct PickledParts {
  std::string storage_type = "torch\nFloatStorage\n";
  std::string key = "0";
  std::int64_t length = 6;
  std::int64_t offset = 0;
  std::vector<std::int64_t> sizes{2, 3};
  std::vector<std::int64_t> strides{3, 1};
  std::string function = "torch._utils\n_rebuild_tensor_v2\n";
  std::string hooks = "ccollections\nOrderedDict\n)R";
  std::string rest;  ///< arguments after the hooks
};

inline std::string pickled_tensor(const PickledParts& parts = {}) {
  return "c" + parts.function + "((" + pickled_text("storage") + "c" + parts.storage_type +
         pickled_text(parts.key) + pickled_text("cpu") + pickled_number(parts.length) + "tQ" +
         pickled_number(parts.offset) + pickled_numbers(parts.sizes) +
         pickled_numbers(parts.strides) + "\x89" + parts.hooks + parts.rest + "tR";
}

/// A whole pickle: a dict of what these instructions push, key and value by turns.
inline std::string pickled_dict(const std::string& entries) {
  return "\x80\x02}(" + entries + "u.";
}

/// A file as torch.save writes it, around any pickle.
inline std::string torch_archive(const std::string& pickle,
                                 const std::vector<std::string>& storages = {},
                                 const std::string& byte_order = "little") {
  std::vector<ZipPart> parts{{"m/data.pkl", pickle}, {"m/byteorder", byte_order}};
  for (const std::string& storage : storages) {
    parts.push_back({"m/data/" + std::to_string(parts.size() - 2), storage});
  }
  parts.push_back({"m/version", "3\n"});
  return stored_zip(parts);
}

}  // namespace torch_accelerated::testing
