// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "checkpoint/pickle_value.h"

namespace torch_accelerated {

/// What is wrong with a call, with the cure; empty where it was taken.
using PickleProblem = std::string;

/// What the global `callee`, "called" with these arguments, would make; `arguments` stay as they
/// are.
PickleProblem rebuild_object(const PickleContents& contents, const PickleGlobal& callee,
                             const PickleObject& arguments, PickleObject& result);

/// The storage that a persistent id of torch.save's stands for.
PickleProblem rebuild_storage(const PickleContents& contents, const PickleValue& id,
                              PickleObject& result);

/// What a value is, in a word or two.
std::string_view pickle_kind(const PickleContents& contents, const PickleValue& value);

}  // namespace torch_accelerated
