// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/safetensors_header.h"

namespace torch_accelerated {

/// The tensors of a file, or of a set of files.
class TensorReader {
 public:
  virtual ~TensorReader() = default;

  /// For messages.
  virtual const std::string& path() const = 0;

  virtual const std::vector<SafetensorsEntry>& tensors() const = 0;

  /// Writes the contiguous bytes of one of `tensors()`, checked, to `destination`.
  virtual void copy(const SafetensorsEntry& entry, void* destination) const = 0;

  /// Checks the bytes as `copy` does, without copying.
  virtual void check(const SafetensorsEntry& entry) const = 0;
};

/// A safetensors file, Hugging Face's index of several, a folder that holds either, or what
/// Python's `torch.save(model.state_dict(), path)` wrote: told apart by what the file is.
///
/// @param key  of a dict of state dicts, the one that is read; empty for a plain state dict.
/// @throws FileError        it can't be read.
/// @throws CheckpointError  it is none of these.
std::unique_ptr<TensorReader> open_tensors(const std::string& path, const std::string& key = {});

}  // namespace torch_accelerated
