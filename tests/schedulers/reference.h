// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tests {

/// A curve of tests/reference/schedules.txt, one value an update or an epoch.
inline std::vector<double> reference_curve(const std::string& name) {
  const auto tests = std::filesystem::path(__FILE__).parent_path().parent_path();
  std::ifstream file(tests / "reference" / "schedules.txt");
  std::vector<double> values;
  bool is_inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("curve ")) {
      is_inside = line == "curve " + name;
    } else if (is_inside) {
      values.push_back(std::stod(line));
    }
  }
  if (values.empty()) throw std::runtime_error("tests/reference/schedules.txt has no " + name);
  return values;
}

}  // namespace tests
