// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <functional>
#include <utility>

namespace torch_accelerated {

/// Runs the body of main and turns what it throws into the program's exit status.
///
/// An error is one line on stderr: printed once for all ranks when all have it, else with the rank
/// that has it; where the library has initialised MPI, that rank then ends the job.
/// @param body  returns nothing, which is status 0, or the status.
/// @return  what main is to return: Error::exit_code(), 71 for std::bad_alloc, 70 for anything else
///          that is thrown.
int run(const std::function<int()>& body);

/// The same for a body that returns nothing.
template <class Body>
  requires std::invocable<Body&> && std::same_as<std::invoke_result_t<Body&>, void>
int run(Body&& body) {
  return run(std::function<int()>([&body] {
    body();
    return 0;
  }));
}

}  // namespace torch_accelerated
