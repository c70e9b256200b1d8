// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_communicator.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "base/text.h"
#include "distributed/row_exchange.h"

namespace torch_accelerated {
namespace {

using detail::NcclDevice;
using detail::NcclOperation;
using detail::NcclSession;
using Tensors = std::vector<torch::Tensor>;

class NcclPending : public Pending {
 public:
  NcclPending(std::shared_ptr<NcclSession> session, NcclOperation operation, NcclDevice::End end,
              std::unique_ptr<Pending> on_host)
      : session_(std::move(session)),
        operation_(operation),
        end_(std::move(end)),
        on_host_(std::move(on_host)) {}

  void wait() override {
    session_->check(operation_);
    if (end_) end_->hold_current();
    if (on_host_) on_host_->wait();
  }

  void wait_on_host() override {
    wait();
    session_->wait_until(operation_, [this] { return !end_ || end_->reached(); });
  }

 private:
  std::shared_ptr<NcclSession> session_;
  NcclOperation operation_;
  NcclDevice::End end_;
  std::unique_ptr<Pending> on_host_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> control, c10::Device device,
                   detail::NcclBackend backend)
      : nccl_(device, control->rank(), control->size(), std::move(backend)),
        control_(std::move(control)) {
    set_timeout(control_->timeout());
    join();
  }

  int rank() const noexcept override { return control_->rank(); }
  int size() const noexcept override { return control_->size(); }
  std::string name() const override { return "NCCL"; }

 protected:
  std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                         SumOrder order) override {
    Tensors here;
    Tensors on_host;
    for (const auto& tensor : tensors) {
      auto& list = is_here(tensor) ? here : on_host;
      if (tensor.numel() > 0) list.push_back(tensor.detach());
    }
    auto end = tensors.empty() ? nccl_.mark(current()) : nccl_.all_reduce(current(), here, order);
    std::unique_ptr<Pending> host;
    if (!on_host.empty()) {
      host = over_control([&](auto& control) { return control.start_all_reduce(on_host, order); });
    }
    return std::make_unique<NcclPending>(nccl_.session(), current(), std::move(end),
                                         std::move(host));
  }

  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    if (is_here(part) != is_here(whole)) refuse(whole);
    if (!is_here(part)) {
      return over_control([&](auto& control) { control.reduce_scatter(part, whole); });
    }
    if (part.numel() == 0) return;
    hold(nccl_.reduce_scatter(current(), part.detach(), whole.detach()));
  }

  Tensors do_all_gather(const torch::Tensor& tensor) override {
    if (!is_here(tensor)) {
      return over_control([&](auto& control) { return control.all_gather(tensor); });
    }
    const auto rows = exchange_rows({tensor});
    const bool is_even =
        std::all_of(rows.begin(), rows.end(), [&](const auto& row) { return row == rows.front(); });
    return is_even ? gather_even(tensor.detach()) : gather_uneven(tensor.detach(), rows);
  }

  Tensors do_all_to_all(const Tensors& parts) override {
    const bool here = is_here(parts.front());
    for (const auto& part : parts) {
      if (is_here(part) != here) refuse(part);
    }
    if (!here) return over_control([&](auto& control) { return control.all_to_all(parts); });
    const auto rows = exchange_rows(parts);
    Tensors sent;
    Tensors received;
    for (std::size_t peer = 0; peer < parts.size(); ++peer) {
      sent.push_back(parts[peer].detach());
      received.push_back(with_rows(parts[peer], rows[peer][static_cast<std::size_t>(rank())]));
    }
    hold(nccl_.exchange(current(), sent, received));
    return received;
  }

  void do_broadcast(torch::Tensor& tensor, int root) override {
    if (!is_here(tensor)) {
      return over_control([&](auto& control) { control.broadcast(tensor, root); });
    }
    hold(nccl_.broadcast(current(), tensor.detach(), root));
  }

  void do_broadcast(std::string& bytes, int root) override {
    over_control([&](auto& control) { control.broadcast(bytes, root); });
  }

  // The ranks meet on the host before the device is waited for: there a lost rank is known at once,
  // here only after the timeout.
  void do_barrier() override {
    over_control([](auto& control) { control.barrier(); });
    nccl_.wait(current());
  }

  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    if (!is_here(like)) {
      return over_control([&](auto& control) { return control.make_buffer(numel, like); });
    }
    return torch::zeros({numel}, like.options().requires_grad(false));
  }

  std::unique_ptr<Communicator> do_duplicate() override {
    auto control = over_control([](auto& own) { return own.duplicate(); });
    return std::make_unique<NcclCommunicator>(std::move(control), nccl_.device(), nccl_.backend());
  }

  void do_close() override {
    do_barrier();
    nccl_.leave(current());
    over_control([](auto& control) { control.close(); });
  }

  // The others are told first: to stop what is under way may take its time.
  void do_abort(const std::string& reason, ExitCode exit_code) noexcept override {
    control_->abort(reason, exit_code);
    nccl_.session()->abort();
  }

 private:
  NcclOperation current() const { return {operation().name, operation().number, timeout()}; }

  // When a rank is lost here, NCCL's work is stopped too: it would wait for that rank for ever.
  template <class Step>
  std::invoke_result_t<Step, Communicator&> over_control(Step&& step) const {
    control_->set_timeout(timeout());
    try {
      return step(*control_);
    } catch (const CommunicationError&) {
      nccl_.session()->abort();
      throw;
    }
  }

  // Rank 0 makes the id that the others need; that it couldn't, they hear the same way.
  void join() {
    std::string id;
    std::string problem;
    if (rank() == 0) {
      auto& api = *nccl_.backend().api;
      const auto result = api.get_unique_id(id);
      if (result != detail::NcclResult::kSuccess) {
        problem = concat("NCCL made no id: ", api.get_error_string(result));
      }
    }
    over_control([&](auto& control) { control.broadcast(problem, 0); });
    agree(problem);
    over_control([&](auto& control) { control.broadcast(id, 0); });
    try {
      nccl_.join({"make_nccl_communicator", 0, timeout()}, id);
    } catch (const CommunicationError& error) {
      problem = error.what();
    }
    agree(problem);
  }

  // Throws on all ranks where one has a problem.
  void agree(const std::string& problem) {
    const auto all = over_control([&](auto& control) { return control.all_gather(problem); });
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].empty()) continue;
      nccl_.session()->abort();
      CommunicationError error(concat("rank ", i, ": ", all[i]), ExitCode::kMismatch);
      error.set_on_all_ranks();
      throw error;
    }
  }

  // Whether NCCL moves it, or the control communicator does.
  bool is_here(const torch::Tensor& tensor) const {
    if (tensor.device() == nccl_.device()) return true;
    if (!tensor.is_cpu()) refuse(tensor);
    return false;
  }

  [[noreturn]] void refuse(const torch::Tensor& tensor) const {
    throw ArgumentError(concat(operation().name, ": a tensor is on ", tensor.device(),
                               "; tensors that belong together are all on ", nccl_.device(),
                               " or all on the CPU"));
  }

  static void hold(const NcclDevice::End& end) {
    if (end) end->hold_current();
  }

  detail::Rows exchange_rows(const Tensors& parts) {
    return over_control(
        [&](auto& control) { return detail::exchange_rows(operation().name, control, parts); });
  }

  static torch::Tensor with_rows(const torch::Tensor& like, std::int64_t rows) {
    auto sizes = like.sizes().vec();
    sizes.front() = rows;
    return torch::empty(sizes, like.options().requires_grad(false));
  }

  Tensors gather_even(const torch::Tensor& tensor) {
    const auto rows = tensor.size(0);
    const auto all = with_rows(tensor, rows * size());
    hold(nccl_.all_gather(current(), all, tensor));
    Tensors parts;
    for (int peer = 0; peer < size(); ++peer) parts.push_back(all.narrow(0, peer * rows, rows));
    return parts;
  }

  Tensors gather_uneven(const torch::Tensor& tensor, const detail::Rows& rows) {
    Tensors received;
    for (const auto& row : rows) received.push_back(with_rows(tensor, row.front()));
    hold(nccl_.exchange(current(), Tensors(rows.size(), tensor), received));
    return received;
  }

  NcclDevice nccl_;
  std::unique_ptr<Communicator> control_;
};

}  // namespace

bool has_nccl() { return detail::make_nccl_api() != nullptr; }

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, c10::Device device) {
  auto api = detail::make_nccl_api();
  if (!api) {
    throw StateError(
        "make_nccl_communicator: the library was built without NCCL; build it with nccl.h and "
        "libnccl.so.2 in reach, or have device tensors staged through the host");
  }
  if (!device.has_index()) device = c10::impl::VirtualGuardImpl(device.type()).getDevice();
  return make_nccl_communicator(control, device, {std::move(api), detail::make_side_stream});
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, c10::Device device,
                                                     detail::NcclBackend backend) {
  return std::make_unique<NcclCommunicator>(control.duplicate(), device, std::move(backend));
}

}  // namespace torch_accelerated
