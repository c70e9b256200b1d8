// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_communicator.h"

#include <torch/torch.h>

#include <algorithm>

#include "base/text.h"
#include "distributed/done.h"
#include "distributed/mpi_job.h"
#include "distributed/rank_sum.h"
#include "distributed/window_channel.h"

namespace torch_accelerated::detail {
namespace {

using Tensors = std::vector<torch::Tensor>;

// MPI and the window see the host's memory only; make_staged_communicator is for other tensors.
const torch::Tensor& on_host(const char* call, const torch::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  throw ArgumentError(concat(call, ": the tensor is on ", tensor.device(),
                             ", this communicator moves tensors of the CPU"));
}
const torch::Tensor& on_host(const char* call,
                             torch::Tensor&& tensor) = delete;  // it would be gone

Bytes bytes_of(const torch::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

MutableBytes mutable_bytes_of(const torch::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()};
}

torch::Tensor empty_rows(std::int64_t rows, const torch::Tensor& like) {
  auto sizes = like.sizes().vec();
  sizes[0] = rows;
  return torch::empty(sizes, torch::dtype(like.dtype()));
}

/// Tensors over a channel.
class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::unique_ptr<Channel> channel, std::shared_ptr<MpiGroup> group)
      : channel_(std::move(channel)), group_(std::move(group)) {}

  int rank() const noexcept override { return channel_->rank(); }
  int size() const noexcept override { return channel_->size(); }
  std::string name() const override { return channel_->name(); }

 protected:
  std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> tensors, SumOrder order) override;
  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override;
  Tensors do_all_gather(const torch::Tensor& tensor) override;
  Tensors do_all_to_all(const Tensors& parts) override;
  void do_broadcast(torch::Tensor& tensor, int root) override;
  void do_broadcast(std::string& bytes, int root) override;
  void do_barrier() override { meet(call()); }
  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override;
  std::unique_ptr<Communicator> do_duplicate() override;
  void do_close() override;
  void do_abort(const std::string& reason, ExitCode exit_code) noexcept override;

 private:
  Call call() const { return make_call(operation().name, operation().number, operation().bytes); }
  std::vector<std::vector<std::int64_t>> gather_rows(const Tensors& parts);
  std::span<const Call> meet(const Call& mine) { return channel_->meet(mine, timeout()); }

  // After a failure messages may still arrive in memory of these tensors, so it is never given
  // back.
  template <class Step>
  static void attempt(std::span<const torch::Tensor> tensors, Step&& step) {
    try {
      step();
    } catch (const CommunicationError&) {
      new Tensors(tensors.begin(), tensors.end());
      throw;
    }
  }

  std::unique_ptr<Channel> channel_;
  std::shared_ptr<MpiGroup> group_;
  std::vector<Summand> summands_;  // kept between sums, so that small ones allocate nothing
};

std::unique_ptr<Pending> MpiCommunicator::do_all_reduce(std::span<torch::Tensor> tensors,
                                                        SumOrder order) {
  auto mine = call();
  agree_on_order(mine, order == SumOrder::kPairwise);
  summands_.clear();
  for (auto& tensor : tensors) {
    agree_on(mine, on_host(mine.name, tensor));
    if (tensor.numel() == 0) continue;
    summands_.push_back({static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.numel(),
                         static_cast<std::int64_t>(tensor.nbytes()), tensor.scalar_type()});
  }
  attempt(tensors, [&] { channel_->all_reduce(mine, timeout(), summands_, order); });
  return std::make_unique<Done>();
}

void MpiCommunicator::do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) {
  auto mine = call();
  agree_on(mine, on_host(mine.name, part));
  const auto received = torch::empty({size(), part.numel()}, torch::dtype(part.dtype()));
  const auto from = bytes_of(on_host(mine.name, whole));
  const auto into = mutable_bytes_of(received);
  std::vector<Bytes> sent;
  std::vector<MutableBytes> spans;
  std::vector<const void*> parts;
  for (std::size_t peer = 0; peer < static_cast<std::size_t>(size()); ++peer) {
    sent.push_back(from.subspan(part.nbytes() * peer, part.nbytes()));
    spans.push_back(into.subspan(part.nbytes() * peer, part.nbytes()));
    parts.push_back(spans.back().data());
  }
  const Tensors touched{whole, received};
  attempt(touched, [&] {
    meet(mine);
    channel_->all_to_all(sent, spans, static_cast<std::int64_t>(part.nbytes()));
  });
  sum_over_ranks(part.mutable_data_ptr(), parts, part.numel(), part.scalar_type(),
                 SumOrder::kRankOrder);
}

Tensors MpiCommunicator::do_all_gather(const torch::Tensor& tensor) {
  auto mine = call();
  agree_on(mine, on_host(mine.name, tensor), 1);
  Tensors touched{tensor};
  attempt(touched, [&] {
    std::vector<MutableBytes> spans;
    for (const auto& of_peer : meet(mine)) {
      touched.push_back(empty_rows(of_peer.sizes[0], tensor));
      spans.push_back(mutable_bytes_of(touched.back()));
    }
    channel_->all_gather(bytes_of(tensor), spans);
  });
  touched.erase(touched.begin());
  return touched;
}

Tensors MpiCommunicator::do_all_to_all(const Tensors& parts) {
  auto mine = call();
  agree_on(mine, on_host(mine.name, parts.front()), 1);
  Tensors touched = parts;
  Tensors received;
  attempt(touched, [&] {
    meet(mine);
    const auto rows = gather_rows(parts);
    std::vector<Bytes> sent;
    std::vector<MutableBytes> spans;
    std::int64_t most = 0;
    for (std::size_t peer = 0; peer < parts.size(); ++peer) {
      received.push_back(empty_rows(rows[peer][static_cast<std::size_t>(rank())], parts.front()));
      touched.push_back(received.back());
      sent.push_back(bytes_of(parts[peer]));
      spans.push_back(mutable_bytes_of(received.back()));
      most = std::max(most, *std::max_element(rows[peer].begin(), rows[peer].end()));
    }
    auto row_bytes = static_cast<std::int64_t>(parts.front().element_size());
    for (const auto length : parts.front().sizes().slice(1)) row_bytes *= length;
    channel_->all_to_all(sent, spans, most * row_bytes);
  });
  return received;
}

// How many rows each rank sends to each.
std::vector<std::vector<std::int64_t>> MpiCommunicator::gather_rows(const Tensors& parts) {
  std::vector<std::int64_t> mine;
  for (const auto& part : parts) mine.push_back(part.size(0));
  std::vector<std::vector<std::int64_t>> all(parts.size(), std::vector<std::int64_t>(parts.size()));
  std::vector<MutableBytes> spans;
  spans.reserve(all.size());
  for (auto& rows : all) spans.push_back(std::as_writable_bytes(std::span(rows)));
  channel_->all_gather(std::as_bytes(std::span(mine)), spans);
  return all;
}

void MpiCommunicator::do_broadcast(torch::Tensor& tensor, int root) {
  auto mine = call();
  agree_on_root(mine, root);
  agree_on(mine, on_host(mine.name, tensor));
  attempt(std::span(&tensor, 1), [&] {
    meet(mine);
    channel_->broadcast(mutable_bytes_of(tensor), root);
  });
}

void MpiCommunicator::do_broadcast(std::string& bytes, int root) {
  auto mine = call();
  agree_on_root(mine, root);
  Tensors touched;
  attempt(touched, [&] {
    const auto length = meet(mine)[static_cast<std::size_t>(root)].bytes;
    touched.push_back(torch::empty({length}, torch::kUInt8));
    const auto whole = mutable_bytes_of(touched.front());
    if (rank() == root)
      std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char*>(whole.data()));
    channel_->broadcast(whole, root);
    if (rank() != root) bytes.assign(reinterpret_cast<const char*>(whole.data()), whole.size());
  });
}

torch::Tensor MpiCommunicator::do_make_buffer(std::int64_t numel, const torch::Tensor& like) {
  auto mine = call();
  agree_on(mine, static_cast<std::uint64_t>(numel));
  agree_on(mine, static_cast<std::uint64_t>(like.scalar_type()));
  meet(mine);
  const auto bytes = operation().bytes;
  std::byte* memory = like.is_cpu() && bytes > 0 ? channel_->make_buffer(bytes) : nullptr;
  if (memory == nullptr) return torch::zeros({numel}, like.options().requires_grad(false));
  return torch::from_blob(
      memory, {numel}, [users = group_->window_users](void* /*unused*/) {},
      torch::dtype(like.dtype()));
}

std::unique_ptr<Communicator> MpiCommunicator::do_duplicate() {
  meet(call());
  return std::make_unique<MpiCommunicator>(channel_->duplicate(), group_);
}

void MpiCommunicator::do_close() {
  meet(call());
  channel_->close();
}

void MpiCommunicator::do_abort(const std::string& reason, ExitCode exit_code) noexcept {
  if (group_->is_ours) end_job(reason, exit_code);
  channel_->tell_failure(reason, exit_code);
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm comm, std::shared_ptr<MpiGroup> group,
                                                    std::uint64_t id) {
  MPI_Comm own = duplicate_comm(comm);
  auto channel = group->has_window
                     ? WindowChannel::make(own, group, id)
                     : std::unique_ptr<Channel>(std::make_unique<MpiChannel>(own, group, id));
  return std::make_unique<MpiCommunicator>(std::move(channel), std::move(group));
}

}  // namespace torch_accelerated::detail
