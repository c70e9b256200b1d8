// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_set.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>

#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors_index.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

// The file that a path means: itself, or the model's in a folder.
std::string model_path(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    const std::filesystem::path candidate = std::filesystem::path(path) / name;
    if (std::filesystem::exists(candidate, error)) return candidate.string();
  }
  throw FileError(concat("folder '", path,
                         "' has neither model.safetensors nor model.safetensors.index.json; give "
                         "the name of the file itself"));
}

SafetensorsIndex read_index(const std::string& path) {
  const MappedFile file(path);
  if (file.bytes().size() > kSafetensorsIndexBytes) {
    throw DataError(concat("safetensors index '", path, "': it holds ", file.bytes().size(),
                           " bytes, expected at most ", kSafetensorsIndexBytes,
                           "; give the index of a sharded model."));
  }
  file.read_ahead(file.bytes());
  return parse_safetensors_index(file.bytes(), path);
}

}  // namespace

SafetensorsSet::SafetensorsSet(const std::string& path) : path_(model_path(path)) {
  if (path_.ends_with(".json")) {
    open_shards();
  } else {
    files_.emplace_back(path_);
    list_tensors();
  }
}

void SafetensorsSet::open_shards() {
  const SafetensorsIndex index = read_index(path_);
  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  files_.reserve(index.shards.size());
  for (const std::string& shard : index.shards) files_.emplace_back((folder / shard).string());
  list_tensors();
  for (const SafetensorsIndex::Tensor& tensor : index.tensors) {
    const Place* place = place_of(tensor.name);
    if (place != nullptr && place->file == tensor.shard) continue;
    throw CheckpointError(concat("safetensors index '", path_, "': tensor '", shown(tensor.name),
                                 "' is ", place == nullptr ? "not" : "in another file, not",
                                 " in '", shown(index.shards[tensor.shard]),
                                 "', expected there; the files are of different models or not "
                                 "complete: download or copy all of them again."));
  }
}

void SafetensorsSet::list_tensors() {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    for (const SafetensorsEntry& tensor : files_[i].tensors()) {
      tensors_.push_back(&tensor);
      by_name_.push_back({&tensor, i});
    }
  }
  std::sort(by_name_.begin(), by_name_.end(),
            [](const Place& a, const Place& b) { return a.tensor->name < b.tensor->name; });
  const auto twice = std::adjacent_find(
      by_name_.begin(), by_name_.end(),
      [](const Place& a, const Place& b) { return a.tensor->name == b.tensor->name; });
  if (twice == by_name_.end()) return;
  throw CheckpointError(concat(
      "safetensors index '", path_, "': tensor '", shown(twice->tensor->name), "' is in both '",
      shown(files_[twice->file].path()), "' and '", shown(files_[std::next(twice)->file].path()),
      "', expected in one; write the files again."));
}

const SafetensorsSet::Place* SafetensorsSet::place_of(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [](const Place& place, std::string_view wanted) { return place.tensor->name < wanted; });
  if (found == by_name_.end() || found->tensor->name != name) return nullptr;
  return &*found;
}

const SafetensorsFile& SafetensorsSet::file_of(const SafetensorsEntry& tensor) const {
  const Place* place = place_of(tensor.name);
  if (place == nullptr) {
    throw ArgumentError(concat("SafetensorsSet '", path_, "': there is no tensor '",
                               shown(tensor.name), "'; give a tensor of this set."));
  }
  return files_[place->file];
}

const SafetensorsEntry* SafetensorsSet::find(std::string_view name) const {
  const Place* place = place_of(name);
  return place == nullptr ? nullptr : place->tensor;
}

std::string_view SafetensorsSet::bytes_of(const SafetensorsEntry& tensor) const {
  return file_of(tensor).bytes_of(tensor);
}

void SafetensorsSet::copy(const SafetensorsEntry& tensor, void* destination) const {
  file_of(tensor).copy(tensor, destination);
}

void SafetensorsSet::check(const SafetensorsEntry& tensor) const { file_of(tensor).check(tensor); }

}  // namespace torch_accelerated
