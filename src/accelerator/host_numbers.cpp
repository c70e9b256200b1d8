// SPDX-License-Identifier: Apache-2.0
#include "accelerator/host_numbers.h"

#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

constexpr std::int64_t kCapacity = 4096;

}  // namespace

HostNumbers::HostNumbers(c10::Device device)
    : places_(torch::zeros({kCapacity},
                           torch::TensorOptions().dtype(torch::kFloat64).device(device))) {}

torch::Tensor HostNumbers::add(std::function<double()> read) {
  const auto place = static_cast<std::int64_t>(reads_.size());
  if (place == kCapacity) {
    throw StateError(concat("capture_graph: the captured steps have more than ", kCapacity,
                            " learning rates and counts; use fewer param groups"));
  }
  reads_.push_back(std::move(read));
  // On the CPU what is recorded is done meanwhile, and reads it now.
  if (places_.is_cpu()) places_.mutable_data_ptr<double>()[place] = reads_.back()();
  return places_.select(0, place);
}

void HostNumbers::send() {
  if (reads_.empty()) return;
  const auto count = static_cast<std::int64_t>(reads_.size());
  if (places_.is_cpu()) return read_into(places_);
  // The host's allocator keeps pinned memory until its copy is done.
  const auto numbers =
      torch::empty({count}, torch::TensorOptions().dtype(torch::kFloat64).pinned_memory(true));
  read_into(numbers);
  places_.narrow(0, 0, count).copy_(numbers, /*non_blocking=*/true);
}

void HostNumbers::read_into(const torch::Tensor& numbers) const {
  auto* to = numbers.mutable_data_ptr<double>();
  for (const auto& read : reads_) *to++ = read();
}

}  // namespace torch_accelerated
