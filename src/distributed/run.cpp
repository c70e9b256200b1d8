// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/distributed/run.h"

#include <new>
#include <optional>
#include <string>

#include "distributed/job.h"
#include "distributed/tell.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

struct Failure {
  std::string text;
  ExitCode exit_code = ExitCode::kUserCode;
  bool is_on_all_ranks = false;
  std::optional<int> rank;
};

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.what(), error.exit_code(), error.is_on_all_ranks(), error.rank()};
  } catch (const std::bad_alloc& error) {
    return {std::string("out of memory: ") + error.what(), ExitCode::kOutOfMemory, false, {}};
  } catch (const std::exception& error) {
    // LibTorch has no type of its own for the memory of the CPU.
    const std::string text = error.what();
    const bool is_memory = text.find("DefaultCPUAllocator") != std::string::npos;
    return {text, is_memory ? ExitCode::kOutOfMemory : ExitCode::kUserCode, false, {}};
  } catch (...) {
    return {"something was thrown that is no std::exception", ExitCode::kUserCode, false, {}};
  }
}

int report(const Failure& failure) {
  const bool is_ours = detail::is_job_ours();
  const int rank = is_ours ? detail::job_rank() : failure.rank.value_or(-1);
  if (failure.is_on_all_ranks) {
    if (rank <= 0) detail::tell(failure.text, -1);
    detail::meet_before_end();
  } else if (is_ours) {
    detail::end_job(failure.text, failure.exit_code);
  } else {
    detail::tell(failure.text, rank);
  }
  return static_cast<int>(failure.exit_code);
}

}  // namespace

int run(const std::function<int()>& body) {
  Failure failure;
  try {
    return body();
  } catch (...) {
    failure = current_failure();
  }
  // Not before the error is gone: what it holds is released, and ranks may meet.
  return report(failure);
}

}  // namespace torch_accelerated
