// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle_globals.h"

#include <algorithm>
#include <array>

namespace torch_accelerated {
namespace {

using What = PickleGlobal::What;

struct Row {
  std::string_view module;
  std::string_view name;
  PickleGlobal global;
};

constexpr Row storage(std::string_view name, SafetensorsDtype dtype) {
  return {"torch", name, {What::kStorage, dtype}};
}

constexpr Row dtype(std::string_view name, SafetensorsDtype dtype) {
  return {"torch", name, {What::kDtype, dtype}};
}

// Only what has no storage type of its own is saved with a dtype.
constexpr std::array kRows{
    Row{"collections", "OrderedDict", {What::kOrderedDict}},
    Row{"torch._utils", "_rebuild_tensor_v2", {What::kRebuildTensor}},
    Row{"torch._utils", "_rebuild_tensor_v3", {What::kRebuildTensorWithDtype}},
    Row{"torch._utils", "_rebuild_parameter", {What::kRebuildParameter}},
    Row{"torch.storage", "UntypedStorage", {What::kUntypedStorage}},
    storage("FloatStorage", SafetensorsDtype::kF32),
    storage("DoubleStorage", SafetensorsDtype::kF64),
    storage("HalfStorage", SafetensorsDtype::kF16),
    storage("BFloat16Storage", SafetensorsDtype::kBf16),
    storage("LongStorage", SafetensorsDtype::kI64),
    storage("IntStorage", SafetensorsDtype::kI32),
    storage("ShortStorage", SafetensorsDtype::kI16),
    storage("CharStorage", SafetensorsDtype::kI8),
    storage("ByteStorage", SafetensorsDtype::kU8),
    storage("BoolStorage", SafetensorsDtype::kBool),
    storage("ComplexFloatStorage", SafetensorsDtype::kC64),
    dtype("uint16", SafetensorsDtype::kU16),
    dtype("uint32", SafetensorsDtype::kU32),
    dtype("uint64", SafetensorsDtype::kU64),
    dtype("float8_e4m3fn", SafetensorsDtype::kF8E4m3),
    dtype("float8_e5m2", SafetensorsDtype::kF8E5m2),
    dtype("float8_e8m0fnu", SafetensorsDtype::kF8E8m0),
    dtype("float8_e4m3fnuz", SafetensorsDtype::kF8E4m3Fnuz),
    dtype("float8_e5m2fnuz", SafetensorsDtype::kF8E5m2Fnuz),
};

}  // namespace

std::optional<PickleGlobal> pickle_global(std::string_view module, std::string_view name) {
  const auto* row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& candidate) {
    return candidate.module == module && candidate.name == name;
  });
  if (row == kRows.end()) return std::nullopt;
  return row->global;
}

}  // namespace torch_accelerated
