// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_session.h"

#include <algorithm>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {
namespace {

constexpr std::chrono::seconds kAbortWait{1};

bool is_error(NcclResult result) {
  return result != NcclResult::kSuccess && result != NcclResult::kInProgress;
}

const char* advice(NcclResult result) {
  switch (result) {
    case NcclResult::kInvalidUsage:
      return "; two ranks on one GPU can't use NCCL, have their tensors staged through the host";
    case NcclResult::kRemoteError:
    case NcclResult::kSystemError:
      return "; another rank was probably lost, its own message says why";
    default:
      return "; NCCL_DEBUG=INFO in the environment makes NCCL say more";
  }
}

}  // namespace

void NcclSession::join(const NcclOperation& operation, int size, const std::string& id, int rank) {
  settle(operation, api_->comm_init_rank(comm_, size, id, rank));
}

void NcclSession::group(const NcclOperation& operation, const std::vector<Call>& calls) {
  auto result = api_->group_start();
  if (is_error(result)) fail(operation, result);
  for (const auto& call : calls) {
    result = call(*api_, comm_);
    if (is_error(result)) break;
  }
  // A group that was begun is ended, or the next one would be part of it.
  const auto end = api_->group_end();
  settle(operation, is_error(result) ? result : end);
}

void NcclSession::check(const NcclOperation& operation) {
  if (comm_ == nullptr) fail(operation, "the NCCL communicator has been given up");
  state(operation);
}

void NcclSession::wait_until(const NcclOperation& operation, const std::function<bool()>& reached) {
  poll(operation, [&](NcclResult) { return reached(); });
}

void NcclSession::leave(const NcclOperation& operation) {
  settle(operation, api_->comm_finalize(comm_));
  const auto result = api_->comm_destroy(std::exchange(comm_, nullptr));
  if (is_error(result)) fail(operation, result);
}

void NcclSession::abort() noexcept {
  const auto comm = std::exchange(comm_, nullptr);
  if (comm == nullptr) return;
  // What it returns changes nothing: there is nothing else that could be tried. It waits until no
  // graph has its work any more, and those go when the caller's stack is unwound.
  try {
    std::packaged_task<void()> work([api = api_, comm] { api->comm_abort(comm); });
    const auto done = work.get_future();
    std::thread(std::move(work)).detach();
    done.wait_for(kAbortWait);
  } catch (const std::system_error&) {
    api_->comm_abort(comm);  // the system has no thread to give
  }
}

NcclResult NcclSession::state(const NcclOperation& operation) {
  auto state = NcclResult::kSuccess;
  const auto result = api_->comm_get_async_error(comm_, state);
  if (is_error(result)) fail(operation, result);
  if (is_error(state)) fail(operation, state);
  return state;
}

// Returns when what a call has begun has been carried out.
void NcclSession::settle(const NcclOperation& operation, NcclResult result) {
  if (is_error(result)) fail(operation, result);
  if (result == NcclResult::kSuccess) return;
  poll(operation, [](NcclResult state) { return state == NcclResult::kSuccess; });
}

void NcclSession::poll(const NcclOperation& operation,
                       const std::function<bool(NcclResult)>& done) {
  using Clock = std::chrono::steady_clock;
  if (comm_ == nullptr) check(operation);
  const auto begin = Clock::now();
  while (!done(state(operation))) {
    const auto waited = Clock::now() - begin;
    if (waited > operation.timeout) {
      fail(operation, concat("had not ended after ", operation.timeout.count(),
                             " ms; a rank didn't call it or was lost"));
    }
    // What ends soon is seen at once, what takes long costs no processor.
    std::this_thread::sleep_for(
        std::min<Clock::duration>(waited / 8, std::chrono::milliseconds(1)));
  }
}

void NcclSession::fail(const NcclOperation& operation, NcclResult result) {
  auto text = api_->get_error_string(result);
  const auto last = api_->get_last_error(comm_);
  if (!last.empty()) text += concat(" (", last, ")");
  fail(operation, text + advice(result));
}

void NcclSession::fail(const NcclOperation& operation, const std::string& text) {
  abort();
  throw CommunicationError(
      concat(operation.name, ", operation ", operation.number, " over NCCL: ", text));
}

}  // namespace torch_accelerated::detail
