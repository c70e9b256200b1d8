// SPDX-License-Identifier: Apache-2.0
#pragma once

// CMake reads the version from these three lines.
#define TORCH_ACCELERATED_VERSION_MAJOR 0
#define TORCH_ACCELERATED_VERSION_MINOR 1
#define TORCH_ACCELERATED_VERSION_PATCH 0

namespace torch_accelerated {

/// The version of these headers, "major.minor.patch".
inline constexpr const char* kVersion = "0.1.0";

}  // namespace torch_accelerated
