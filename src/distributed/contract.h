// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torch_accelerated/base/error.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// What has to be the same on all ranks before they go on together, and whether each of them can.
class Contract {
 public:
  /// @param call  the name that messages begin with.
  explicit Contract(std::string call) : call_(std::move(call)) {}

  /// Adds what has to be equal; the order counts.
  void add(std::string_view field, std::string_view value);

  /// This rank can't go on: `check` throws on all ranks.
  void refuse(const std::string& problem, ExitCode exit_code);

  /// Collective; ranks that are at different checks learn of each other's refusals all the same.
  /// @throws ArgumentError       a rank has refused for its arguments.
  /// @throws CommunicationError  it has for another reason, or a field differs; names the field,
  /// the
  ///                             two ranks and their values. Either is thrown on all ranks.
  void check(Communicator& control) const;

 private:
  std::string call_;
  std::vector<std::pair<std::string, std::string>> fields_;
  std::string problem_;
  ExitCode exit_code_ = ExitCode::kUserCode;
};

}  // namespace torch_accelerated
