// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tensor_file.h"

#include <torch/torch.h>

#include <array>
#include <utility>
#include <vector>

#include "base/text.h"
#include "checkpoint/safetensors_text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using Dtype = SafetensorsDtype;

constexpr std::array kDtypes{
    std::pair(torch::kBool, Dtype::kBool),
    std::pair(torch::kUInt8, Dtype::kU8),
    std::pair(torch::kInt8, Dtype::kI8),
    std::pair(torch::kInt16, Dtype::kI16),
    std::pair(torch::kUInt16, Dtype::kU16),
    std::pair(torch::kFloat16, Dtype::kF16),
    std::pair(torch::kBFloat16, Dtype::kBf16),
    std::pair(torch::kInt32, Dtype::kI32),
    std::pair(torch::kUInt32, Dtype::kU32),
    std::pair(torch::kFloat32, Dtype::kF32),
    std::pair(torch::kInt64, Dtype::kI64),
    std::pair(torch::kUInt64, Dtype::kU64),
    std::pair(torch::kFloat64, Dtype::kF64),
    std::pair(torch::kComplexFloat, Dtype::kC64),
    std::pair(torch::kFloat8_e4m3fn, Dtype::kF8E4m3),
    std::pair(torch::kFloat8_e5m2, Dtype::kF8E5m2),
    std::pair(torch::kFloat8_e4m3fnuz, Dtype::kF8E4m3Fnuz),
    std::pair(torch::kFloat8_e5m2fnuz, Dtype::kF8E5m2Fnuz),
    std::pair(at::ScalarType::Float8_e8m0fnu, Dtype::kF8E8m0),
};

Dtype dtype_of(const std::string& name, const torch::Tensor& tensor) {
  if (tensor.layout() != torch::kStrided) {
    throw ArgumentError(concat("tensor '", shown(name), "' is ", tensor.layout(),
                               ", which safetensors files can't hold; give it as a dense one"));
  }
  for (const auto& [own, dtype] : kDtypes) {
    if (own == tensor.scalar_type()) return dtype;
  }
  throw ArgumentError(concat("tensor '", shown(name), "' is ", tensor.dtype(),
                             ", which safetensors files can't hold; convert it"));
}

torch::ScalarType scalar_type_of(const SafetensorsEntry& entry, const std::string& path) {
  for (const auto& [own, dtype] : kDtypes) {
    if (dtype == entry.dtype) return own;
  }
  throw CheckpointError(concat("'", path, "': tensor '", shown(entry.name), "' is ",
                               safetensors_dtype_name(entry.dtype),
                               ", which LibTorch has no tensors of; convert the file"));
}

void copy_values(const TensorReader& reader, const SafetensorsEntry& entry, void* destination) {
  reader.copy(entry, destination);
  if (entry.dtype != Dtype::kBool) return;
  // Other bytes than 0 and 1 are no C++ bool.
  auto* values = static_cast<unsigned char*>(destination);
  const auto count = safetensors_bytes(entry.dtype, entry.shape).value_or(0);
  for (std::uint64_t i = 0; i < count; ++i) values[i] = values[i] != 0 ? 1 : 0;
}

std::string shape_text(c10::IntArrayRef shape) {
  std::string text = "[";
  for (const auto size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

}  // namespace

WrittenFile write_tensor_file(FileIo& io, const std::string& path, const TensorDict& tensors) {
  std::vector<torch::Tensor> held;  // until they are written
  std::vector<SafetensorsPart> parts;
  held.reserve(tensors.size());
  parts.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto dtype = dtype_of(name, tensor);
    held.push_back(tensor.detach().resolve_conj().resolve_neg().cpu().contiguous());
    parts.push_back({name, dtype, held.back().sizes().vec(), held.back().const_data_ptr()});
  }
  return write_safetensors_file(io, path, parts);
}

void check_can_be_written(const TensorDict& tensors) {
  for (const auto& [name, tensor] : tensors) {
    dtype_of(name, tensor);
    if (tensor.layout() == torch::kStrided) continue;
    throw ArgumentError(concat("tensor '", shown(name), "' is ", tensor.layout(),
                               ", which safetensors files can't hold; make it dense"));
  }
}

torch::Tensor read_tensor(const TensorReader& reader, const SafetensorsEntry& entry) {
  auto tensor = torch::empty(entry.shape, scalar_type_of(entry, reader.path()));
  copy_values(reader, entry, tensor.mutable_data_ptr());
  return tensor;
}

void read_into(const TensorReader& reader, const SafetensorsEntry& entry,
               const torch::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  const auto target = tensor.detach();
  const bool at_once = target.is_cpu() && target.is_contiguous() &&
                       target.scalar_type() == scalar_type_of(entry, reader.path());
  if (at_once) {
    copy_values(reader, entry, target.mutable_data_ptr());
  } else {
    target.copy_(read_tensor(reader, entry));
  }
}

void check_tensor(const TensorReader& reader, const SafetensorsEntry& entry) {
  scalar_type_of(entry, reader.path());
  reader.check(entry);
}

TensorDict read_tensors(const TensorReader& reader) {
  TensorDict tensors;
  for (const auto& entry : reader.tensors()) tensors.set(entry.name, read_tensor(reader, entry));
  return tensors;
}

std::string described(const SafetensorsEntry& entry) {
  return concat(safetensors_dtype_name(entry.dtype), " of shape ", shape_text(entry.shape));
}

std::string described(const torch::Tensor& tensor) {
  for (const auto& [own, dtype] : kDtypes) {
    if (own != tensor.scalar_type()) continue;
    return concat(safetensors_dtype_name(dtype), " of shape ", shape_text(tensor.sizes()));
  }
  return concat(tensor.dtype(), " of shape ", shape_text(tensor.sizes()));
}

bool has_dtype_of(const SafetensorsEntry& entry, const torch::Tensor& tensor) {
  for (const auto& [own, dtype] : kDtypes) {
    if (own == tensor.scalar_type()) return dtype == entry.dtype;
  }
  return false;
}

}  // namespace torch_accelerated
