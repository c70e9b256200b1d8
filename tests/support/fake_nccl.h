// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/text.h"
#include "distributed/nccl_communicator.h"
#include "support/fake_graphs.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests {

namespace ta = torch_accelerated;

using Trace = std::vector<std::string>;

/// A stream on which everything is done at once; writes down what it is asked for.
class FakeStream : public ta::detail::SideStream {
 public:
  explicit FakeStream(Trace& trace, const bool& reached) : trace_(&trace), reached_(&reached) {}

  void* handle() const override { return const_cast<FakeStream*>(this); }
  void follow() override { trace_->push_back("follow the current stream"); }
  void use(const torch::Tensor&) override { trace_->push_back("use a tensor"); }
  void run(const std::function<void()>& work) override {
    trace_->push_back("{");
    const torch::NoGradGuard no_grad;
    work();
    trace_->push_back("}");
  }
  std::shared_ptr<Point> mark() override {
    trace_->push_back("mark");
    return std::make_shared<FakePoint>(*trace_, *reached_);
  }

 private:
  class FakePoint : public Point {
   public:
    FakePoint(Trace& trace, const bool& reached) : trace_(&trace), reached_(&reached) {}
    void hold_current() override { trace_->push_back("hold the current stream"); }
    bool reached() const override { return *reached_; }

   private:
    Trace* trace_;
    const bool* reached_;
  };

  Trace* trace_;
  const bool* reached_;
};

/// What ranks that are threads have sent each other.
class FakeMail {
 public:
  void put(int from, int to, torch::Tensor tensor) {
    const std::lock_guard lock(mutex_);
    letters_[{from, to}].push_back(std::move(tensor));
    changed_.notify_all();
  }

  torch::Tensor take(int from, int to) {
    std::unique_lock lock(mutex_);
    auto& letters = letters_[{from, to}];
    if (!changed_.wait_for(lock, std::chrono::seconds(10), [&] { return !letters.empty(); })) {
      throw std::runtime_error(ta::concat("rank ", from, " has sent nothing to ", to));
    }
    auto tensor = std::move(letters.front());
    letters.pop_front();
    return tensor;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<torch::Tensor>> letters_;
};

/// NCCL for tensors on the CPU: writes its calls down, answers what a test wants to hear and
/// carries a group out at its end, collective calls over a communicator of threads.
class FakeNccl : public ta::detail::NcclApi {
 public:
  using Result = ta::detail::NcclResult;
  using Type = ta::detail::NcclType;
  using Comm = ta::detail::NcclComm;
  using Stream = ta::detail::NcclStream;

  explicit FakeNccl(std::unique_ptr<ta::Communicator> wire = ta::make_self_communicator(),
                    std::shared_ptr<FakeMail> mail = std::make_shared<FakeMail>())
      : wire_(std::move(wire)), mail_(std::move(mail)) {}

  std::map<std::string, Result> answers;      ///< to calls, by name; kSuccess where there is none
  std::deque<Result> states;                  ///< what polls find, one after the other
  Result last_state = Result::kSuccess;       ///< what later polls find
  std::map<std::string, Result> state_after;  ///< the last_state that a call brings about
  bool is_lost = false;                       ///< groups are not carried out
  bool device_is_done = true;                 ///< what is queued on the stream has been done
  int polls = 0;
  Trace trace;

  Result get_unique_id(std::string& id) override {
    id = ta::concat("id ", ++ids_);
    return answer("get_unique_id");
  }
  Result comm_init_rank(Comm& comm, int size, const std::string& id, int rank) override {
    comm = this;
    return answer("comm_init_rank", ta::concat(rank, " of ", size, ", ", id));
  }
  Result comm_get_async_error(Comm, Result& state) override {
    ++polls;
    state = states.empty() ? last_state : states.front();
    if (!states.empty()) states.pop_front();
    return answers.contains("comm_get_async_error") ? answers["comm_get_async_error"]
                                                    : Result::kSuccess;
  }
  Result comm_finalize(Comm) override { return answer("comm_finalize"); }
  Result comm_destroy(Comm) override { return answer("comm_destroy"); }
  Result comm_abort(Comm) override { return answer("comm_abort"); }

  Result group_start() override { return answer("group_start"); }
  Result group_end() override {
    const auto result = answer("group_end");
    const bool goes_on = result == Result::kSuccess || result == Result::kInProgress;
    auto steps = std::exchange(group_, {});
    for (auto& step : std::exchange(receives_, {})) steps.push_back(std::move(step));
    if (!goes_on || is_lost) return result;
    FakeGraphs::call([steps = std::move(steps)] {
      for (const auto& step : steps) step();
    });
    return result;
  }

  Result all_reduce(const void* send, void* receive, std::size_t count, Type type, Comm,
                    Stream) override {
    group_.push_back([=, this] {
      auto sum = as_tensor(send, count, type).clone();
      std::vector<torch::Tensor> sums{sum};
      wire_->all_reduce(sums);
      as_tensor(receive, count, type).copy_(sum);
    });
    return answer("all_reduce", ta::concat(count, " of type ", static_cast<int>(type)));
  }
  Result reduce_scatter(const void* send, void* receive, std::size_t count, Type type, Comm,
                        Stream) override {
    group_.push_back([=, this] {
      auto part = as_tensor(receive, count, type);
      wire_->reduce_scatter(part,
                            as_tensor(send, count * static_cast<std::size_t>(wire_->size()), type));
    });
    return answer("reduce_scatter", ta::concat(count, " of type ", static_cast<int>(type)));
  }
  Result all_gather(const void* send, void* receive, std::size_t count, Type type, Comm,
                    Stream) override {
    group_.push_back([=, this] {
      const auto parts = wire_->all_gather(as_tensor(send, count, type));
      as_tensor(receive, count * parts.size(), type).copy_(torch::cat(parts));
    });
    return answer("all_gather", ta::concat(count, " of type ", static_cast<int>(type)));
  }
  Result broadcast(const void*, void* receive, std::size_t count, Type type, int root, Comm,
                   Stream) override {
    group_.push_back([=, this] {
      auto tensor = as_tensor(receive, count, type);
      wire_->broadcast(tensor, root);
    });
    return answer("broadcast", ta::concat(count, " from ", root));
  }
  Result send(const void* buffer, std::size_t count, Type type, int peer, Comm, Stream) override {
    group_.push_back(
        [=, this] { mail_->put(wire_->rank(), peer, as_tensor(buffer, count, type).clone()); });
    return answer("send", ta::concat(count, " to ", peer));
  }
  Result recv(void* buffer, std::size_t count, Type type, int peer, Comm, Stream) override {
    receives_.push_back(
        [=, this] { as_tensor(buffer, count, type).copy_(mail_->take(peer, wire_->rank())); });
    return answer("recv", ta::concat(count, " from ", peer));
  }

  std::string get_error_string(Result result) override {
    return ta::concat("result ", static_cast<int>(result));
  }
  std::string get_last_error(Comm) override { return "the last error"; }

  /// How often `call` was made.
  std::ptrdiff_t count(const std::string& call) const {
    return std::count_if(trace.begin(), trace.end(),
                         [&](const std::string& line) { return line.rfind(call, 0) == 0; });
  }

 private:
  Result answer(const std::string& call, const std::string& arguments = "") {
    trace.push_back(arguments.empty() ? call : call + " " + arguments);
    if (const auto found = state_after.find(call); found != state_after.end()) {
      last_state = found->second;
    }
    const auto found = answers.find(call);
    return found == answers.end() ? Result::kSuccess : found->second;
  }

  static torch::Tensor as_tensor(const void* data, std::size_t count, Type type) {
    static const std::map<Type, torch::ScalarType> dtypes{
        {Type::kInt8, torch::kInt8},       {Type::kUint8, torch::kUInt8},
        {Type::kInt32, torch::kInt32},     {Type::kInt64, torch::kInt64},
        {Type::kFloat16, torch::kFloat16}, {Type::kFloat32, torch::kFloat32},
        {Type::kFloat64, torch::kFloat64}, {Type::kBfloat16, torch::kBFloat16}};
    return torch::from_blob(const_cast<void*>(data), {static_cast<std::int64_t>(count)},
                            dtypes.at(type));
  }

  // Sends never wait for their receives, as in a group of NCCL's.
  std::unique_ptr<ta::Communicator> wire_;
  std::shared_ptr<FakeMail> mail_;
  int ids_ = 0;
  std::vector<std::function<void()>> group_;
  std::vector<std::function<void()>> receives_;
};

/// Runs `body` as each of `size` ranks, with a communicator of threads and the NCCL of that rank;
/// what a rank throws is returned as its text, by rank.
inline std::vector<std::string> with_ranks(
    int size, const std::function<void(ta::Communicator&, FakeNccl&)>& body) {
  auto controls = ta::make_thread_communicators(size);
  auto wires = ta::make_thread_communicators(size);
  const auto mail = std::make_shared<FakeMail>();
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  threads.reserve(controls.size());
  for (std::size_t rank = 0; rank < controls.size(); ++rank) {
    threads.emplace_back([&, rank] {
      FakeNccl nccl(std::move(wires[rank]), mail);
      try {
        body(*controls[rank], nccl);
      } catch (const std::exception& error) {
        errors[rank] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

/// The communicator over a fake, which outlives it.
inline std::unique_ptr<ta::Communicator> over_fake(ta::Communicator& control, FakeNccl& nccl,
                                                   c10::Device device = c10::kCPU) {
  return ta::make_nccl_communicator(
      control, device, {std::shared_ptr<ta::detail::NcclApi>(&nccl, [](auto*) {}), [&](auto) {
                          return std::make_unique<FakeStream>(nccl.trace, nccl.device_is_done);
                        }});
}

/// A world of one over NCCL, and what it has done since it was there.
struct Alone {
  std::unique_ptr<ta::Communicator> control = ta::make_self_communicator();
  FakeNccl nccl;
  std::unique_ptr<ta::Communicator> communicator = over_fake(*control, nccl);

  Alone() { nccl.trace.clear(); }
};

}  // namespace tests
