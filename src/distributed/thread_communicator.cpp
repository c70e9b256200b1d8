// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/distributed/thread_communicator.h"

#include <torch/torch.h>

#include <condition_variable>
#include <mutex>

#include "base/text.h"
#include "distributed/done.h"
#include "distributed/rank_sum.h"

namespace torch_accelerated {
namespace {

using Tensors = std::vector<torch::Tensor>;

/// Where the ranks of one communicator meet: each puts tensors down and sees those of all others.
class Meeting {
 public:
  explicit Meeting(int size) : brought_(static_cast<std::size_t>(size)) {}

  /// Waits until all ranks have brought theirs; `read` sees them before any rank goes on.
  template <class Read>
  void exchange(int rank, Tensors brought, std::chrono::milliseconds timeout, const char* what,
                Read&& read) {
    brought_[static_cast<std::size_t>(rank)] = std::move(brought);
    wait_for_all(timeout, what);
    read(brought_);
    wait_for_all(timeout, what);
  }

  /// The meeting of this one's duplicate, the same for all ranks.
  std::shared_ptr<Meeting> next() {
    const std::lock_guard lock(mutex_);
    if (!next_) next_ = std::make_shared<Meeting>(size());
    return next_;
  }
  void forget_next() {
    const std::lock_guard lock(mutex_);
    next_.reset();
  }

  void leave(int rank, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (left_.empty()) left_ = concat("rank ", rank, " has failed: ", reason);
    changed_.notify_all();
  }

  int size() const noexcept { return static_cast<int>(brought_.size()); }

 private:
  void wait_for_all(std::chrono::milliseconds timeout, const char* what) {
    std::unique_lock lock(mutex_);
    const auto round = round_;
    if (++arrived_ == size()) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    const bool in_time =
        changed_.wait_for(lock, timeout, [&] { return round_ != round || !left_.empty(); });
    if (round_ != round) return;
    if (!left_.empty()) throw CommunicationError(concat(what, ": ", left_));
    if (in_time) return;
    throw CommunicationError(concat(what, ": only ", arrived_, " of ", size(), " ranks came in ",
                                    timeout.count(), " ms; every rank has to call it"));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Tensors> brought_;
  int arrived_ = 0;
  std::int64_t round_ = 0;
  std::string left_;  // who failed, and why
  std::shared_ptr<Meeting> next_;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(int rank, std::shared_ptr<Meeting> meeting)
      : rank_(rank), meeting_(std::move(meeting)) {}

  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return meeting_->size(); }
  std::string name() const override { return "threads"; }

 protected:
  std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                         SumOrder order) override {
    Tensors sums;
    exchange({tensors.begin(), tensors.end()}, [&](const std::vector<Tensors>& all) {
      for (std::size_t i = 0; i < tensors.size(); ++i) sums.push_back(sum(all, i, order));
    });
    for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].data().copy_(sums[i]);
    return std::make_unique<Done>();
  }

  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    torch::Tensor total;
    exchange({whole},
             [&](const std::vector<Tensors>& all) { total = sum(all, 0, SumOrder::kRankOrder); });
    part.data().copy_(total.view({size(), part.numel()})[rank_].view_as(part));
  }

  Tensors do_all_gather(const torch::Tensor& tensor) override {
    Tensors parts;
    parts.reserve(static_cast<std::size_t>(size()));
    exchange({tensor}, [&](const std::vector<Tensors>& all) {
      for (const auto& brought : all) parts.push_back(brought.front().detach().clone());
    });
    return parts;
  }

  Tensors do_all_to_all(const Tensors& parts) override {
    Tensors received;
    received.reserve(parts.size());
    exchange(parts, [&](const std::vector<Tensors>& all) {
      for (const auto& brought : all) {
        received.push_back(brought[static_cast<std::size_t>(rank_)].detach().clone());
      }
    });
    return received;
  }

  void do_broadcast(torch::Tensor& tensor, int root) override {
    torch::Tensor copy;
    exchange({tensor}, [&](const std::vector<Tensors>& all) {
      copy = all[static_cast<std::size_t>(root)].front().detach().clone();
    });
    tensor.data().copy_(copy);
  }

  void do_broadcast(std::string& bytes, int root) override {
    const auto length = static_cast<std::int64_t>(bytes.size());
    const auto mine = torch::from_blob(bytes.data(), {length}, torch::kUInt8);
    std::string copy;
    exchange({mine}, [&](const std::vector<Tensors>& all) {
      const auto& of_root = all[static_cast<std::size_t>(root)].front();
      copy.assign(static_cast<const char*>(of_root.const_data_ptr()), of_root.nbytes());
    });
    bytes = std::move(copy);
  }

  void do_barrier() override {
    exchange({}, [](const std::vector<Tensors>&) {});
  }

  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    return torch::zeros({numel}, like.options().requires_grad(false));
  }

  std::unique_ptr<Communicator> do_duplicate() override {
    std::shared_ptr<Meeting> next;
    exchange({}, [&](const std::vector<Tensors>&) { next = meeting_->next(); });
    meeting_->forget_next();
    return std::make_unique<ThreadCommunicator>(rank_, std::move(next));
  }

  void do_close() override { do_barrier(); }

  void do_abort(const std::string& reason, ExitCode /*exit_code*/) noexcept override {
    meeting_->leave(rank_, reason);
  }

 private:
  template <class Read>
  void exchange(Tensors brought, Read&& read) {
    meeting_->exchange(rank_, std::move(brought), timeout(), operation().name,
                       std::forward<Read>(read));
  }

  static torch::Tensor sum(const std::vector<Tensors>& all, std::size_t index, SumOrder order) {
    std::vector<const void*> parts;
    parts.reserve(all.size());
    for (const auto& brought : all) parts.push_back(brought[index].const_data_ptr());
    auto total = torch::empty_like(all.front()[index]);
    detail::sum_over_ranks(total.mutable_data_ptr(), parts, total.numel(), total.scalar_type(),
                           order);
    return total;
  }

  int rank_;
  std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size) {
  if (size < 1) {
    throw ArgumentError(concat("make_thread_communicators: size must be >= 1, got ", size));
  }
  const auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  communicators.reserve(static_cast<std::size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(std::make_unique<ThreadCommunicator>(rank, meeting));
  }
  return communicators;
}

}  // namespace torch_accelerated
