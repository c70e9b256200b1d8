// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace tests {

struct Finished {
  int status = 0;
  std::string output;  // stdout and stderr
};

/// Runs one of the examples, on one thread, as the tests of a machine may run at the same time.
inline Finished run(const std::string& example, const std::string& arguments) {
  const auto command =
      "OMP_NUM_THREADS=1 " + std::string(EXAMPLES_DIR) + "/" + example + " " + arguments + " 2>&1";
  auto* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen: " + command);
  Finished finished;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    finished.output += buffer.data();
  }
  finished.status = WEXITSTATUS(::pclose(pipe));
  return finished;
}

}  // namespace tests
