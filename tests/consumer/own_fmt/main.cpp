// SPDX-License-Identifier: Apache-2.0
// torch, the library, and the user's own fmt and spdlog in one file.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "torch_accelerated/base/log.h"
#include "torch_accelerated/core/tensor_dict.h"

namespace ta = torch_accelerated;

int main() {
  const ta::TensorDict dict{{"data", at::ones({2, 3})}};
  ta::log(ta::LogLevel::kInfo, "the library's line");
  spdlog::info("the user's line: {} rows, fmt {}", dict.rows(), FMT_VERSION);
  const std::string text = fmt::format("{:.1f}", dict["data"].sum().item<double>());
  fmt::print("{}\n", text);
  // The library's logger is none of the user's, so that neither changes the other's level.
  return text == "6.0" && spdlog::get("torch_accelerated") == nullptr ? 0 : 1;
}
