// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace torch_accelerated {

/// Collects what is wrong with the options of one call, so that all of it is told at once.
class OptionCheck {
 public:
  /// @param call  the name that starts the message, such as "train" or "EarlyStopping".
  explicit OptionCheck(std::string_view call) : call_(call) {}

  /// Notes `problem` (value, expectation and cure, without the call's name) unless `ok`.
  OptionCheck& require(bool ok, std::string problem);

  /// @throws ArgumentError  with all problems noted so far, if there are any.
  void throw_if_any() const;

 private:
  std::string call_;
  std::vector<std::string> problems_;
};

}  // namespace torch_accelerated
