// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors_file.h"

namespace torch_accelerated {

/// The tensors of one safetensors file, or of all files that a Hugging Face index names.
///
/// Views and pointers into it hold as long as it does, also when it is moved. Several threads may
/// read at once.
class SafetensorsSet {
 public:
  /// `path` is a safetensors file, an index (it ends in ".json"), or a folder that has one of both:
  /// model.safetensors, or else model.safetensors.index.json.
  ///
  /// Tensors that a shard has and the index doesn't name are among them.
  /// @throws FileError        a file isn't there, or what the system said.
  /// @throws DataError        a file that is not what it claims to be.
  /// @throws CheckpointError  a tensor isn't in the shard that the index says, or is in two.
  explicit SafetensorsSet(const std::string& path);

  /// File after file, in the order of their bytes.
  const std::vector<const SafetensorsEntry*>& tensors() const { return tensors_; }

  /// The files, in the order in which the index names them.
  const std::vector<SafetensorsFile>& files() const { return files_; }

  /// The file or index that was read.
  const std::string& path() const { return path_; }

  /// The tensor of this name; null where there is none.
  const SafetensorsEntry* find(std::string_view name) const;

  /// As SafetensorsFile's, of a tensor of this set.
  std::string_view bytes_of(const SafetensorsEntry& tensor) const;
  void copy(const SafetensorsEntry& tensor, void* destination) const;
  void check(const SafetensorsEntry& tensor) const;

 private:
  struct Place {
    const SafetensorsEntry* tensor;
    std::size_t file;
  };

  void open_shards();
  void list_tensors();
  const Place* place_of(std::string_view name) const;
  const SafetensorsFile& file_of(const SafetensorsEntry& tensor) const;

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::vector<const SafetensorsEntry*> tensors_;
  std::vector<Place> by_name_;
};

}  // namespace torch_accelerated
