// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include "base/text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {
namespace {

void check_root(int root) {
  if (root == 0) return;
  throw ArgumentError(concat("broadcast: rank ", root, " is not in a world of one; use rank 0"));
}

class SelfCommunicator : public Communicator {
 public:
  int rank() const noexcept override { return 0; }
  int size() const noexcept override { return 1; }

  void all_reduce(std::span<torch::Tensor> /*tensors*/) override {}
  std::vector<torch::Tensor> all_gather(const torch::Tensor& tensor) override { return {tensor}; }
  void broadcast(torch::Tensor& /*tensor*/, int root) override { check_root(root); }
  void broadcast(std::string& /*bytes*/, int root) override { check_root(root); }
  void barrier() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace torch_accelerated
