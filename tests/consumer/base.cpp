// SPDX-License-Identifier: Apache-2.0
// A stranger's program that is quick to compile: it links all of the library and includes no torch.
#include <cstdio>

#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"
#include "torch_accelerated/base/version.h"

namespace ta = torch_accelerated;

int main() {
  ta::log(ta::LogLevel::kInfo, "a line of the library's log");
  try {
    throw ta::ArgumentError("thrown here, caught as the library's error");
  } catch (const ta::Error& error) {
    std::printf("torch-accelerated %s: %s\n", ta::kVersion, error.what());
  }
}
