// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

namespace torch_accelerated {

/// Adds values in pairs, pairs of pairs and so on, as they come: (v0 + v1) + (v2 + v3). Any aligned
/// subtree gives the same partial sum wherever it is computed.
///
/// @tparam Add  void(Value& left, const Value& right): adds the right value to the left one.
template <class Value, class Add>
class PairwiseSum {
 public:
  explicit PairwiseSum(Add add = {}) : add_(std::move(add)) {}

  void push(Value value) {
    int level = 0;
    for (; !subtrees_.empty() && subtrees_.back().level == level; ++level) {
      Value left = std::move(subtrees_.back().sum);
      subtrees_.pop_back();
      add_(left, value);
      value = std::move(left);
    }
    subtrees_.push_back({level, std::move(value)});
  }

  bool empty() const noexcept { return subtrees_.empty(); }

  /// The sum of all, and nothing is left. There is at least one value.
  Value take() {
    Value sum = std::move(subtrees_.back().sum);
    subtrees_.pop_back();
    while (!subtrees_.empty()) {
      Value left = std::move(subtrees_.back().sum);
      subtrees_.pop_back();
      add_(left, sum);
      sum = std::move(left);
    }
    return sum;
  }

  void clear() noexcept { subtrees_.clear(); }

 private:
  struct Subtree {
    int level;
    Value sum;
  };

  Add add_;
  std::vector<Subtree> subtrees_;  // of falling level
};

}  // namespace torch_accelerated
