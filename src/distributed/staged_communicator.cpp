// SPDX-License-Identifier: Apache-2.0
#include "distributed/staged_communicator.h"

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include <set>
#include <utility>

#include "base/text.h"

namespace torch_accelerated {
namespace {

using Tensors = std::vector<torch::Tensor>;

// LibTorch's allocator of pinned memory hands the same blocks out again, each when the copies that
// use it are done.
torch::Tensor host_memory(const torch::Tensor& like) {
  const bool pin = like.is_cuda();
  return torch::empty(like.sizes(),
                      torch::TensorOptions().dtype(like.scalar_type()).pinned_memory(pin));
}

torch::Tensor begin_copy(const torch::Tensor& tensor) {
  const auto memory = host_memory(tensor);
  memory.copy_(tensor, /*non_blocking=*/true);
  return memory;
}

// Waits for the copies of `tensors` to the host.
void wait_for_copies(const Tensors& tensors) {
  std::set<std::pair<c10::DeviceType, c10::DeviceIndex>> waited_for;
  for (const auto& tensor : tensors) {
    const auto device = tensor.device();
    if (device.is_cpu() || !waited_for.emplace(device.type(), device.index()).second) continue;
    c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
  }
}

class StagedPending : public Pending {
 public:
  StagedPending(std::unique_ptr<Pending> on_host, Tensors tensors, Tensors copies)
      : on_host_(std::move(on_host)), tensors_(std::move(tensors)), copies_(std::move(copies)) {}

  void wait() override {
    on_host_->wait();
    const torch::NoGradGuard no_grad;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      tensors_[i].copy_(copies_[i], /*non_blocking=*/true);
    }
    tensors_.clear();  // a second wait copies nothing over what has been done since
    copies_.clear();
  }

 private:
  std::unique_ptr<Pending> on_host_;
  Tensors tensors_;
  Tensors copies_;
};

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, Staging staging)
      : host_(std::move(host)), staging_(staging) {
    set_timeout(host_->timeout());
  }

  int rank() const noexcept override { return host_->rank(); }
  int size() const noexcept override { return host_->size(); }
  std::string name() const override { return concat(host_->name(), ", staged through the host"); }

 protected:
  std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                         SumOrder order) override {
    const torch::NoGradGuard no_grad;
    Tensors staged;
    Tensors copies;
    Tensors summed;
    for (const auto& tensor : tensors) {
      const auto plain = tensor.detach();
      summed.push_back(is_staged(plain) ? begin_copy(plain) : plain);
      if (!is_staged(plain)) continue;
      staged.push_back(plain);
      copies.push_back(summed.back());
    }
    wait_for_copies(staged);
    return std::make_unique<StagedPending>(host().start_all_reduce(summed, order),
                                           std::move(staged), std::move(copies));
  }

  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    if (!is_staged(part) && !is_staged(whole)) return host().reduce_scatter(part, whole);
    const torch::NoGradGuard no_grad;
    auto part_copy = host_memory(part);
    host().reduce_scatter(part_copy, on_host({whole}).front());
    part.copy_(part_copy, /*non_blocking=*/true);
  }

  Tensors do_all_gather(const torch::Tensor& tensor) override {
    if (!is_staged(tensor)) return host().all_gather(tensor);
    return to_device(host().all_gather(on_host({tensor}).front()), tensor.device());
  }

  Tensors do_all_to_all(const Tensors& parts) override {
    return to_device(host().all_to_all(on_host(parts)), parts.front().device());
  }

  void do_broadcast(torch::Tensor& tensor, int root) override {
    if (!is_staged(tensor)) return host().broadcast(tensor, root);
    const torch::NoGradGuard no_grad;
    auto copy = rank() == root ? on_host({tensor}).front() : host_memory(tensor);
    host().broadcast(copy, root);
    if (rank() != root) tensor.copy_(copy, /*non_blocking=*/true);
  }

  void do_broadcast(std::string& bytes, int root) override { host().broadcast(bytes, root); }
  void do_barrier() override { host().barrier(); }

  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    if (!is_staged(like)) return host().make_buffer(numel, like);
    return torch::zeros({numel}, like.options().requires_grad(false));
  }

  std::unique_ptr<Communicator> do_duplicate() override {
    return std::make_unique<StagedCommunicator>(host().duplicate(), staging_);
  }

  void do_close() override { host().close(); }

  void do_abort(const std::string& reason, ExitCode exit_code) noexcept override {
    host_->abort(reason, exit_code);
  }

 private:
  Communicator& host() {
    host_->set_timeout(timeout());
    return *host_;
  }

  bool is_staged(const torch::Tensor& tensor) const {
    return staging_ == Staging::kAllTensors || !tensor.is_cpu();
  }

  // The tensors, or copies of them that are there.
  Tensors on_host(const Tensors& tensors) const {
    const torch::NoGradGuard no_grad;
    Tensors copies;
    for (const auto& tensor : tensors) {
      copies.push_back(is_staged(tensor) ? begin_copy(tensor.detach()) : tensor);
    }
    wait_for_copies(tensors);
    return copies;
  }

  static Tensors to_device(Tensors tensors, c10::Device device) {
    for (auto& tensor : tensors) tensor = tensor.to(device);
    return tensors;
  }

  std::unique_ptr<Communicator> host_;
  Staging staging_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host,
                                                       Staging staging) {
  return std::make_unique<StagedCommunicator>(std::move(host), staging);
}

}  // namespace torch_accelerated
