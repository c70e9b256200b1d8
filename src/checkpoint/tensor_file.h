// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "checkpoint/safetensors_file_writer.h"
#include "checkpoint/tensor_reader.h"
#include "torch_accelerated/core/tensor_dict.h"

namespace torch_accelerated {

/// Writes tensors into a new safetensors file. Those on a device or with strides are copied first.
///
/// @throws ArgumentError  a dtype that safetensors lacks, such as a quantised one, or a sparse one.
WrittenFile write_tensor_file(FileIo& io, const std::string& path, const TensorDict& tensors);

/// All of them can be written.
/// @throws ArgumentError  as `write_tensor_file`, or a sparse one.
void check_can_be_written(const TensorDict& tensors);

/// One of the reader's tensors, new and in the host's memory.
/// @throws CheckpointError  a dtype that LibTorch lacks.
torch::Tensor read_tensor(const TensorReader& reader, const SafetensorsEntry& entry);

/// Reads into `tensor`, which has the entry's shape; another dtype is converted.
void read_into(const TensorReader& reader, const SafetensorsEntry& entry,
               const torch::Tensor& tensor);

/// Whether `read_into` will succeed: throws what it would, without reading into anything.
void check_tensor(const TensorReader& reader, const SafetensorsEntry& entry);

/// All that a reader has.
TensorDict read_tensors(const TensorReader& reader);

/// "F32 of shape [2, 3]", for messages.
std::string described(const SafetensorsEntry& entry);
std::string described(const torch::Tensor& tensor);

/// Whether the entry's values are those of tensors like this one.
bool has_dtype_of(const SafetensorsEntry& entry, const torch::Tensor& tensor);

}  // namespace torch_accelerated
