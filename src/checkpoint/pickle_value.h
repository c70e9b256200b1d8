// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>
#include <variant>
#include <vector>

#include "checkpoint/safetensors_dtype.h"

namespace torch_accelerated {

/// A name of Python's that a pickle may ask for; there are no others.
struct PickleGlobal {
  enum class What : std::uint8_t {
    kOrderedDict,
    kRebuildTensor,           ///< torch._utils._rebuild_tensor_v2
    kRebuildTensorWithDtype,  ///< torch._utils._rebuild_tensor_v3
    kRebuildParameter,
    kStorage,         ///< one of values of `dtype`
    kUntypedStorage,  ///< one of bytes
    kDtype,
  };
  What what = What::kOrderedDict;
  SafetensorsDtype dtype = SafetensorsDtype::kU8;

  bool operator==(const PickleGlobal&) const = default;
};

struct PickleNone {};

/// A number that can be no part of a tensor: a real one, or one of more than 64 bits.
struct PickleNumber {};

/// The position of a PickleObject.
struct PickleReference {
  std::uint32_t index = 0;
};

/// What stands on the pickle machine's stack. Texts point into the pickle.
using PickleValue = std::variant<PickleNone, bool, std::int64_t, PickleNumber, std::string_view,
                                 PickleGlobal, PickleReference>;

/// What has parts. Objects name each other by position, so that no depth and no cycle matters.
struct PickleObject {
  enum class Kind : std::uint8_t { kTuple, kList, kDict, kStorage, kTensor };
  Kind kind = Kind::kTuple;
  /// The parts of a tuple or list; key, value, key, value, ... of a dict; those below.
  std::vector<PickleValue> parts;

  /// Of a storage.
  enum : std::size_t { kStorageType, kStorageKey, kStorageLength };  // its length in values
  /// Of a tensor. Sizes and strides are tuples of as many whole numbers >= 0, strides and the
  /// offset in values.
  enum : std::size_t { kOfStorage, kOffset, kSizes, kStrides, kRequiresGrad, kTensorDtype };
};

/// What a pickle holds: one value, and all objects that it may refer to.
struct PickleContents {
  PickleValue root;
  std::deque<PickleObject> objects;

  /// The object that a value refers to, if it is one of this kind; else null.
  const PickleObject* object(const PickleValue& value, PickleObject::Kind kind) const {
    const auto* reference = std::get_if<PickleReference>(&value);
    if (reference == nullptr || objects[reference->index].kind != kind) return nullptr;
    return &objects[reference->index];
  }
};

}  // namespace torch_accelerated
