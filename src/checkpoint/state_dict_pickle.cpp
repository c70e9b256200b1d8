// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/state_dict_pickle.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "checkpoint/pickle_machine.h"
#include "checkpoint/pickle_rebuild.h"
#include "checkpoint/torch_file_text.h"

namespace torch_accelerated {
namespace {

using Kind = PickleObject::Kind;

class Interpreter {
 public:
  Interpreter(const PickleContents& contents, std::string_view file_name)
      : contents_(contents), file_name_(file_name) {}

  const PickleObject& chosen(std::string_view key) const;
  StateDictPickle read(const PickleObject& dict) const;

 private:
  PickledTensor tensor(const PickleValue& key, const PickleObject& object) const;
  std::vector<std::int64_t> numbers(const PickleValue& tuple) const;
  std::size_t count_tensors(const PickleObject& dict) const;
  void refuse_doubles(const PickleObject& dict) const;

  const PickleContents& contents_;
  std::string_view file_name_;
};

template <class Value>
const Value& get(const PickleObject& object, std::size_t part) {
  return std::get<Value>(object.parts[part]);
}

// A key as it is told: a name, or what else a dict of Python's may have.
std::string key_text(const PickleContents& contents, const PickleValue& key) {
  if (const auto* text = std::get_if<std::string_view>(&key)) {
    return std::string(text->substr(0, StateDictLimits::kNameBytes));
  }
  if (const auto* number = std::get_if<std::int64_t>(&key)) return std::to_string(*number);
  return std::string(pickle_kind(contents, key));
}

const PickleObject& Interpreter::chosen(std::string_view key) const {
  const PickleObject* root = contents_.object(contents_.root, Kind::kDict);
  if (root == nullptr) {
    refuse_torch_file(file_name_, "it holds ", pickle_kind(contents_, contents_.root),
                      ", expected a dict of tensors; ", kTorchSaveCure, ".");
  }
  if (key.empty()) return *root;
  refuse_doubles(*root);
  constexpr std::size_t kListed = 20;
  std::string names;
  for (std::size_t i = 0; i < root->parts.size(); i += 2) {
    const auto* name = std::get_if<std::string_view>(&root->parts[i]);
    if (name == nullptr || *name != key) {
      if (i / 2 < kListed) names += concat(" '", shown(key_text(contents_, root->parts[i])), "'");
      if (i / 2 == kListed) names += " and more";
      continue;
    }
    const PickleObject* dict = contents_.object(root->parts[i + 1], Kind::kDict);
    if (dict != nullptr) return *dict;
    refuse_torch_file(file_name_, "its '", shown(key), "' is ",
                      pickle_kind(contents_, root->parts[i + 1]),
                      ", expected a dict of tensors; give the key of one.");
  }
  refuse_torch_file(file_name_, "it has no '", shown(key), "', but",
                    names.empty() ? " nothing" : "", names,
                    "; give the key of the dict that holds the weights, or none.");
}

std::vector<std::int64_t> Interpreter::numbers(const PickleValue& tuple) const {
  std::vector<std::int64_t> result;
  for (const PickleValue& part : contents_.object(tuple, Kind::kTuple)->parts) {
    result.push_back(std::get<std::int64_t>(part));
  }
  return result;
}

// The machine has checked what a tensor's and a storage's parts are.
PickledTensor Interpreter::tensor(const PickleValue& key, const PickleObject& object) const {
  const auto* name = std::get_if<std::string_view>(&key);
  if (name == nullptr || name->size() > StateDictLimits::kNameBytes) {
    refuse_torch_file(file_name_, "a tensor's name is ",
                      name == nullptr ? std::string(pickle_kind(contents_, key))
                                      : concat("a text of ", name->size(), " bytes"),
                      ", expected a text of at most ", StateDictLimits::kNameBytes, "; ",
                      kTorchSaveCure, ".");
  }
  const PickleObject& storage =
      *contents_.object(object.parts[PickleObject::kOfStorage], Kind::kStorage);
  const auto length =
      static_cast<std::uint64_t>(get<std::int64_t>(storage, PickleObject::kStorageLength));
  const auto type = get<PickleGlobal>(storage, PickleObject::kStorageType);
  const std::uint64_t value_bytes =
      type.what == PickleGlobal::What::kUntypedStorage ? 1 : safetensors_bits(type.dtype) / 8;
  if (length > std::numeric_limits<std::uint64_t>::max() / value_bytes) {
    refuse_torch_file(file_name_, "tensor '", shown(*name), "': its storage has ", length,
                      " values, expected fewer than 2^60; download or copy the file again.");
  }
  PickledTensor result;
  result.name = *name;
  result.dtype = get<PickleGlobal>(object, PickleObject::kTensorDtype).dtype;
  result.shape = numbers(object.parts[PickleObject::kSizes]);
  result.strides = numbers(object.parts[PickleObject::kStrides]);
  result.storage = get<std::string_view>(storage, PickleObject::kStorageKey);
  result.storage_bytes = length * value_bytes;
  result.offset = static_cast<std::uint64_t>(get<std::int64_t>(object, PickleObject::kOffset));
  result.requires_grad = get<bool>(object, PickleObject::kRequiresGrad);
  return result;
}

std::size_t Interpreter::count_tensors(const PickleObject& dict) const {
  std::size_t count = 0;
  for (std::size_t i = 1; i < dict.parts.size(); i += 2) {
    count += contents_.object(dict.parts[i], Kind::kTensor) != nullptr ? 1 : 0;
  }
  return count;
}

// Python writes each key once; a second one would be a matter of who reads it. What stands in the
// pickle once and is named often is found by its place, so that long texts are compared but once.
void Interpreter::refuse_doubles(const PickleObject& dict) const {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < dict.parts.size(); i += 2) {
    if (const auto* name = std::get_if<std::string_view>(&dict.parts[i])) names.push_back(*name);
  }
  const auto refuse_twice = [&](auto order) {
    std::sort(names.begin(), names.end(), order);
    const auto twice = std::adjacent_find(
        names.begin(), names.end(),
        [&](std::string_view a, std::string_view b) { return !order(a, b) && !order(b, a); });
    if (twice == names.end()) return;
    refuse_torch_file(file_name_, "'", shown(*twice), "' is there twice, expected once; ",
                      kTorchSaveCure, ".");
  };
  refuse_twice([](std::string_view a, std::string_view b) { return a.data() < b.data(); });
  refuse_twice(std::less<>());
}

StateDictPickle Interpreter::read(const PickleObject& dict) const {
  refuse_doubles(dict);
  StateDictPickle result;
  // Counting a dict that is named a thousand times takes a thousand times as long.
  std::size_t looked_at = 0;
  for (std::size_t i = 0; i < dict.parts.size(); i += 2) {
    const PickleValue& key = dict.parts[i];
    const PickleValue& value = dict.parts[i + 1];
    if (const PickleObject* object = contents_.object(value, Kind::kTensor)) {
      if (result.tensors.size() == StateDictLimits::kTensors) {
        refuse_torch_file(file_name_, "it has more than ", StateDictLimits::kTensors,
                          " tensors, expected at most that; split it.");
      }
      result.tensors.push_back(tensor(key, *object));
    } else if (const PickleObject* inner = contents_.object(value, Kind::kDict)) {
      looked_at += inner->parts.size();
      if (looked_at > PickleLimits::kObjects) {
        refuse_torch_file(file_name_, "its dicts name each other over and over; ", kTorchSaveCure,
                          ".");
      }
      result.dicts.push_back({key_text(contents_, key), count_tensors(*inner)});
    } else {
      result.skipped.push_back(key_text(contents_, key));
    }
  }
  return result;
}

}  // namespace

StateDictPickle read_state_dict_pickle(std::string_view pickle, std::string_view file_name,
                                       std::string_view key) {
  const PickleContents contents = read_pickle(pickle, file_name);
  const Interpreter interpreter(contents, file_name);
  return interpreter.read(interpreter.chosen(key));
}

}  // namespace torch_accelerated
