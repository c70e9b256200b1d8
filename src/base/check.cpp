// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/check.h"

#include <utility>

#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

OptionCheck& OptionCheck::require(bool ok, std::string problem) {
  if (!ok) problems_.push_back(std::move(problem));
  return *this;
}

void OptionCheck::throw_if_any() const {
  if (problems_.empty()) return;
  std::string message = call_ + ": ";
  for (std::size_t i = 0; i < problems_.size(); ++i) {
    if (i > 0) message += " | ";
    message += problems_[i];
  }
  throw ArgumentError(message);
}

}  // namespace torch_accelerated
