// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include "distributed/done.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {
namespace {

class SelfCommunicator : public Communicator {
 public:
  int rank() const noexcept override { return 0; }
  int size() const noexcept override { return 1; }
  std::string name() const override { return "one process"; }

 protected:
  std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> /*tensors*/,
                                         SumOrder /*order*/) override {
    return std::make_unique<Done>();
  }
  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    const torch::NoGradGuard no_grad;
    part.copy_(whole.view_as(part));
  }
  std::vector<torch::Tensor> do_all_gather(const torch::Tensor& tensor) override {
    return {tensor.clone()};
  }
  std::vector<torch::Tensor> do_all_to_all(const std::vector<torch::Tensor>& parts) override {
    return {parts.front().clone()};
  }
  void do_broadcast(torch::Tensor& /*tensor*/, int /*root*/) override {}
  void do_broadcast(std::string& /*bytes*/, int /*root*/) override {}
  void do_barrier() override {}
  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    return torch::zeros({numel}, like.options().requires_grad(false));
  }
  std::unique_ptr<Communicator> do_duplicate() override {
    return std::make_unique<SelfCommunicator>();
  }
  void do_close() override {}
  void do_abort(const std::string& /*reason*/, ExitCode /*exit_code*/) noexcept override {}
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace torch_accelerated
