// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors_dtype.h"
#include "checkpoint/stored_zip.h"

namespace torch_accelerated {

/// One tensor of a file of torch.save.
struct TorchFileTensor {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes = 0;  ///< what `TorchFile::copy` writes
  bool requires_grad = false;

  std::vector<std::int64_t> strides;  ///< in values, none below 0
  std::uint64_t offset = 0;           ///< in values
  std::size_t storage = 0;            ///< position of its storage in the archive's directory

  bool operator==(const TorchFileTensor&) const = default;
};

/// The tensors of a file that Python wrote with `torch.save(model.state_dict(), path)`, in the zip
/// format of torch 1.6 and later.
///
/// The file's bytes are in memory (mapped, say) and outlive this. Nothing in them is executed, and
/// memory is taken for names and shapes only. Each byte that counts is checked: the pickle's CRC-32
/// here, a storage's when its first tensor is copied. A tensor's `bytes` may be many more than the
/// file's, as an expanded one's are: compare its shape with what is expected before taking memory
/// for it. Used by one thread at a time.
class TorchFile {
 public:
  /// Finds the tensors: those of the dict in the file or, with `key`, of the dict that stands under
  /// that name in it.
  ///
  /// @throws CheckpointError  another kind of file, one that asks for more than tensors, or one cut
  ///                          short or altered; also, without a key, a dict of dicts of tensors,
  ///                          whose names are told.
  TorchFile(std::string_view bytes, std::string file_name, std::string_view key = {});

  /// In the order of the dict.
  const std::vector<TorchFileTensor>& tensors() const { return tensors_; }

  /// The names of what is in the same dict and no tensor.
  const std::vector<std::string>& skipped() const { return skipped_; }

  /// Writes the values of one of `tensors()`, `tensor.bytes` bytes, row by row without gaps. True
  /// is written as 1.
  ///
  /// @throws CheckpointError  the CRC-32 of its storage differs; nothing was written then.
  /// @throws ArgumentError    the tensor is not of this file.
  void copy(const TorchFileTensor& tensor, void* destination) const;

  /// Checks a tensor of this file as `copy` does, without copying.
  void check(const TorchFileTensor& tensor) const;

 private:
  void check_format(const std::string& prefix) const;
  void add_tensors(std::string_view prefix, std::string_view pickle, std::string_view key);

  std::string file_name_;
  StoredZip zip_;
  std::vector<TorchFileTensor> tensors_;
  std::vector<std::string> skipped_;
  mutable std::vector<bool> is_checked_;  // of each entry of zip_
};

}  // namespace torch_accelerated
