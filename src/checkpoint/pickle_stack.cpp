// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle_stack.h"

#include "checkpoint/pickle_machine.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kAgain = "; download or copy the file again.";

}  // namespace

void PickleStack::push(PickleValue value) {
  if (values_.size() >= PickleLimits::kStack) {
    cursor_.refuse("more than ", PickleLimits::kStack, " values are open; ", kTorchSaveCure, ".");
  }
  values_.push_back(value);
}

void PickleStack::mark() {
  if (marks_.size() >= PickleLimits::kMarks) {
    cursor_.refuse("it is nested deeper than ", PickleLimits::kMarks, "; ", kTorchSaveCure, ".");
  }
  marks_.push_back(values_.size());
}

std::size_t PickleStack::available() const {
  return values_.size() - (marks_.empty() ? 0 : marks_.back());
}

const PickleValue& PickleStack::top() const {
  if (available() == 0) cursor_.refuse("a value is missing", kAgain);
  return values_.back();
}

PickleValue PickleStack::pop() {
  const PickleValue value = top();
  values_.pop_back();
  return value;
}

std::vector<PickleValue> PickleStack::pop_many(std::size_t count) {
  if (available() < count) cursor_.refuse("a value is missing", kAgain);
  const auto begin = values_.end() - static_cast<std::ptrdiff_t>(count);
  std::vector<PickleValue> values(begin, values_.end());
  values_.erase(begin, values_.end());
  return values;
}

std::vector<PickleValue> PickleStack::pop_to_mark() {
  if (marks_.empty()) cursor_.refuse("a mark is missing", kAgain);
  std::vector<PickleValue> values = pop_many(available());
  marks_.pop_back();
  return values;
}

// Python numbers what it remembers from 0 on, so that the memo has no holes.
void PickleStack::memoize(std::uint64_t index) {
  const PickleValue value = top();
  if (index > memo_.size() || index >= PickleLimits::kMemo) {
    cursor_.refuse("a value is remembered as number ", index, ", expected at most ", memo_.size(),
                   " and fewer than ", PickleLimits::kMemo, kAgain);
  }
  if (index == memo_.size()) {
    memo_.push_back(value);
  } else {
    memo_[static_cast<std::size_t>(index)] = value;
  }
}

const PickleValue& PickleStack::remembered(std::uint64_t index) const {
  if (index >= memo_.size()) {
    cursor_.refuse("value number ", index, " was never remembered", kAgain);
  }
  return memo_[static_cast<std::size_t>(index)];
}

}  // namespace torch_accelerated
