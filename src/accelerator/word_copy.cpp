// SPDX-License-Identifier: Apache-2.0
#include "accelerator/word_copy.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace torch_accelerated {

// By c10's interfaces, which a CPU build has too.
class WordCopy::Arrival {
 public:
  explicit Arrival(c10::Device device) : event_(device.type()) {
    event_.record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  }

  void wait() const { event_.synchronize(); }

 private:
  c10::Event event_;
};

WordCopy::WordCopy(const torch::Tensor& word, std::unique_ptr<Pending> reduction)
    : reduction_(std::move(reduction)) {
  const torch::NoGradGuard no_grad;
  if (word.is_cpu()) {
    host_ = word.clone();
    return;
  }
  // The host's allocator keeps pinned memory until its copy is done.
  host_ =
      torch::empty(word.sizes(), torch::TensorOptions().dtype(torch::kFloat64).pinned_memory(true));
  host_.copy_(word, /*non_blocking=*/true);
  arrival_ = std::make_unique<Arrival>(word.device());
}

WordCopy::~WordCopy() = default;
WordCopy::WordCopy(WordCopy&&) noexcept = default;
WordCopy& WordCopy::operator=(WordCopy&&) noexcept = default;

std::span<const double> WordCopy::read() {
  if (const auto reduction = std::exchange(reduction_, nullptr)) reduction->wait_on_host();
  if (const auto arrival = std::exchange(arrival_, nullptr)) arrival->wait();
  return {host_.const_data_ptr<double>(), static_cast<std::size_t>(host_.numel())};
}

}  // namespace torch_accelerated
