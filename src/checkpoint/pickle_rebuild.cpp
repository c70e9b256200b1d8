// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle_rebuild.h"

#include <algorithm>
#include <array>

#include "checkpoint/pickle_machine.h"
#include "checkpoint/torch_file_text.h"

namespace torch_accelerated {
namespace {

using Kind = PickleObject::Kind;
using What = PickleGlobal::What;

bool is_whole(const PickleValue& value) {
  const auto* number = std::get_if<std::int64_t>(&value);
  return number != nullptr && *number >= 0;
}

const PickleObject* sizes(const PickleContents& contents, const PickleValue& value) {
  const PickleObject* tuple = contents.object(value, Kind::kTuple);
  if (tuple == nullptr || tuple->parts.size() > PickleLimits::kRank) return nullptr;
  return std::all_of(tuple->parts.begin(), tuple->parts.end(), is_whole) ? tuple : nullptr;
}

bool is_empty_dict(const PickleContents& contents, const PickleValue& value) {
  const PickleObject* dict = contents.object(value, Kind::kDict);
  return dict != nullptr && dict->parts.empty();
}

PickleProblem rebuild_dict(const PickleObject& arguments, PickleObject& result) {
  if (!arguments.parts.empty()) {
    return "an OrderedDict is made from arguments, expected an empty one that is filled later";
  }
  result.kind = Kind::kDict;
  return {};
}

// A lazily conjugated or negated tensor is marked so beside its values, which are others then.
PickleProblem check_mark(const PickleContents& contents, const PickleValue& mark) {
  if (std::holds_alternative<PickleNone>(mark) || is_empty_dict(contents, mark)) return {};
  return "a tensor is marked as a lazy conjugate or negative, expected its own values; save "
         "tensor.resolve_conj().resolve_neg() instead";
}

PickleProblem rebuild_tensor(const PickleContents& contents, bool has_dtype,
                             const PickleObject& arguments, PickleObject& result) {
  const std::vector<PickleValue>& given = arguments.parts;
  const std::size_t needed = has_dtype ? 7 : 6;
  if (given.size() != needed && given.size() != needed + 1) {
    return concat("a tensor is made from ", given.size(), " arguments, expected ", needed, " or ",
                  needed + 1);
  }
  const PickleObject* storage = contents.object(given[0], Kind::kStorage);
  if (storage == nullptr || !is_whole(given[1])) {
    return "a tensor has no storage or no offset in it >= 0";
  }
  const PickleObject* shape = sizes(contents, given[2]);
  const PickleObject* strides = sizes(contents, given[3]);
  if (shape == nullptr || strides == nullptr || shape->parts.size() != strides->parts.size()) {
    return concat("a tensor's sizes or strides are not two tuples of as many whole numbers >= 0, ",
                  "at most ", PickleLimits::kRank);
  }
  if (!std::holds_alternative<bool>(given[4]) || !is_empty_dict(contents, given[5])) {
    return "a tensor has no requires_grad, or has hooks, which are never called; save it without";
  }
  const auto storage_type = std::get<PickleGlobal>(storage->parts[PickleObject::kStorageType]);
  PickleGlobal type{What::kDtype, storage_type.dtype};
  if (has_dtype) {
    const auto* dtype = std::get_if<PickleGlobal>(&given[6]);
    if (dtype == nullptr || dtype->what != What::kDtype) return "a tensor has no dtype";
    type = *dtype;
  }
  if ((storage_type.what == What::kUntypedStorage) != has_dtype) {
    return "a tensor's storage doesn't fit the way it is made";
  }
  if (given.size() > needed) {
    if (PickleProblem problem = check_mark(contents, given[needed]); !problem.empty()) {
      return problem;
    }
  }
  result.kind = Kind::kTensor;
  result.parts.assign(given.begin(), given.begin() + 5);
  result.parts.emplace_back(type);
  return {};
}

PickleProblem rebuild_parameter(const PickleContents& contents, const PickleObject& arguments,
                                PickleObject& result) {
  const std::vector<PickleValue>& given = arguments.parts;
  const PickleObject* tensor =
      given.size() == 3 ? contents.object(given[0], Kind::kTensor) : nullptr;
  if (tensor == nullptr || !std::holds_alternative<bool>(given[1]) ||
      !is_empty_dict(contents, given[2])) {
    return "a parameter is not made from a tensor, requires_grad and no hooks";
  }
  result = *tensor;
  result.parts[PickleObject::kRequiresGrad] = given[1];
  return {};
}

}  // namespace

PickleProblem rebuild_object(const PickleContents& contents, const PickleGlobal& callee,
                             const PickleObject& arguments, PickleObject& result) {
  switch (callee.what) {
    case What::kOrderedDict:
      return rebuild_dict(arguments, result);
    case What::kRebuildTensor:
      return rebuild_tensor(contents, false, arguments, result);
    case What::kRebuildTensorWithDtype:
      return rebuild_tensor(contents, true, arguments, result);
    case What::kRebuildParameter:
      return rebuild_parameter(contents, arguments, result);
    default:
      return "a storage type or dtype is called, expected a function that makes a tensor";
  }
}

PickleProblem rebuild_storage(const PickleContents& contents, const PickleValue& id,
                              PickleObject& result) {
  const PickleObject* tuple = contents.object(id, Kind::kTuple);
  if (tuple == nullptr || tuple->parts.size() != 5) {
    return "a persistent id is no tuple of five, expected a storage's";
  }
  const std::vector<PickleValue>& given = tuple->parts;
  const auto* kind = std::get_if<std::string_view>(&given[0]);
  const auto* type = std::get_if<PickleGlobal>(&given[1]);
  if (kind == nullptr || *kind != "storage" || type == nullptr ||
      (type->what != What::kStorage && type->what != What::kUntypedStorage) ||
      !std::holds_alternative<std::string_view>(given[2]) ||
      !std::holds_alternative<std::string_view>(given[3]) || !is_whole(given[4])) {
    return "a persistent id is not 'storage', its type, key, device and length >= 0";
  }
  result.kind = Kind::kStorage;
  result.parts = {given[1], given[2], given[4]};
  return {};
}

std::string_view pickle_kind(const PickleContents& contents, const PickleValue& value) {
  constexpr std::array<std::string_view, 5> kObjects{"a tuple", "a list", "a dict", "a storage",
                                                     "a tensor"};
  constexpr std::array<std::string_view, 6> kValues{
      "None", "a truth value", "a number", "a number", "a text", "a name of Python's"};
  if (const auto* reference = std::get_if<PickleReference>(&value)) {
    return kObjects[static_cast<std::size_t>(contents.objects[reference->index].kind)];
  }
  return kValues[value.index()];
}

}  // namespace torch_accelerated
