// SPDX-License-Identifier: Apache-2.0
#include "trainer/deterministic_arithmetic.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include "base/text.h"

namespace torch_accelerated {

DeterministicArithmetic::DeterministicArithmetic(int threads)
    : threads_before_(at::get_num_threads()),
      deterministic_before_(at::globalContext().deterministicAlgorithms()),
      warn_only_before_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
  at::set_num_threads(threads);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
}

DeterministicArithmetic::~DeterministicArithmetic() {
  at::globalContext().setDeterministicAlgorithms(deterministic_before_, warn_only_before_);
  at::set_num_threads(threads_before_);
}

std::string DeterministicArithmetic::description(int threads) {
  return concat(threads, threads == 1 ? " thread, " : " threads, ", at::get_cpu_capability());
}

}  // namespace torch_accelerated
