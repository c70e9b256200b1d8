// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/distributed/communicator.h"

#include <torch/torch.h>

#include "base/text.h"
#include "distributed/tensor_check.h"

namespace torch_accelerated {
namespace {

std::int64_t bytes_of(std::span<const torch::Tensor> tensors) {
  std::int64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}

std::int64_t bytes_of(const torch::Tensor& tensor) {
  return static_cast<std::int64_t>(tensor.nbytes());
}

void check_root(int root, int size) {
  if (root >= 0 && root < size) return;
  throw ArgumentError(
      concat("broadcast: rank ", root, " is not in a world of ", size, "; ranks count from 0"));
}

}  // namespace

// Counts the operation, refuses it where the communicator is of no use any more, and remembers that
// it isn't where the operation fails.
template <class Step>
auto Communicator::operate(const char* name, std::int64_t bytes, Step&& step) {
  if (const auto why = broken(); !why.empty()) throw CommunicationError(concat(name, ": ", why));
  operation_ = {name, operation_.number + 1, bytes};
  try {
    return step();
  } catch (const CommunicationError& error) {
    break_off(concat("the communicator is unusable since an operation failed: ", error.what()));
    throw;
  }
}

std::string Communicator::broken() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

void Communicator::break_off(std::string reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (broken_.empty()) broken_ = std::move(reason);
}

void Communicator::all_reduce(std::span<torch::Tensor> tensors, SumOrder order) {
  start_all_reduce(tensors, order)->wait();
}

std::unique_ptr<Pending> Communicator::start_all_reduce(std::span<torch::Tensor> tensors,
                                                        SumOrder order) {
  for (const auto& tensor : tensors) detail::check_summed("all_reduce", tensor);
  return operate("all_reduce", bytes_of(tensors), [&] { return do_all_reduce(tensors, order); });
}

void Communicator::reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) {
  detail::check_summed("reduce_scatter", part);
  detail::check_summed("reduce_scatter", whole);
  if (whole.numel() != part.numel() * size() || whole.dtype() != part.dtype()) {
    throw ArgumentError(concat("reduce_scatter: the whole is ", whole.dtype(), " ", whole.sizes(),
                               ", the part ", part.dtype(), " ", part.sizes(), "; the whole has ",
                               size(), " parts of the same dtype"));
  }
  operate("reduce_scatter", bytes_of(whole), [&] { do_reduce_scatter(part, whole); });
}

std::vector<torch::Tensor> Communicator::all_gather(const torch::Tensor& tensor) {
  detail::check_moved("all_gather", tensor);
  if (tensor.dim() == 0) {
    throw ArgumentError(
        "all_gather: the tensor is a scalar; give it a first dimension, as by reshape({1})");
  }
  return operate("all_gather", bytes_of(tensor), [&] { return do_all_gather(tensor); });
}

std::vector<std::string> Communicator::all_gather(const std::string& bytes) {
  // The tensor borrows the bytes and is only read.
  const auto length = static_cast<std::int64_t>(bytes.size());
  const auto tensor = torch::from_blob(const_cast<char*>(bytes.data()), {length}, torch::kUInt8);
  const auto parts = operate("all_gather", length, [&] { return do_all_gather(tensor); });
  std::vector<std::string> texts;
  texts.reserve(parts.size());
  for (const auto& part : parts) {
    texts.emplace_back(static_cast<const char*>(part.const_data_ptr()), part.nbytes());
  }
  return texts;
}

std::vector<torch::Tensor> Communicator::all_to_all(const std::vector<torch::Tensor>& parts) {
  if (static_cast<int>(parts.size()) != size()) {
    throw ArgumentError(concat("all_to_all: there are ", parts.size(), " parts for ", size(),
                               " ranks; give one for each"));
  }
  for (const auto& part : parts) {
    detail::check_moved("all_to_all", part);
    if (part.dim() > 0 && part.dtype() == parts.front().dtype() &&
        part.sizes().slice(1) == parts.front().sizes().slice(1)) {
      continue;
    }
    throw ArgumentError(
        concat("all_to_all: a part is ", part.dtype(), " ", part.sizes(), ", the first ",
               parts.front().dtype(), " ", parts.front().sizes(),
               "; all have one dtype, and dimensions that differ in the first alone"));
  }
  return operate("all_to_all", bytes_of(parts), [&] { return do_all_to_all(parts); });
}

void Communicator::broadcast(torch::Tensor& tensor, int root) {
  check_root(root, size());
  detail::check_moved("broadcast", tensor);
  operate("broadcast", bytes_of(tensor), [&] { do_broadcast(tensor, root); });
}

void Communicator::broadcast(std::string& bytes, int root) {
  check_root(root, size());
  operate("broadcast", static_cast<std::int64_t>(bytes.size()), [&] { do_broadcast(bytes, root); });
}

void Communicator::barrier() {
  operate("barrier", 0, [&] { do_barrier(); });
}

torch::Tensor Communicator::make_buffer(std::int64_t numel, const torch::Tensor& like) {
  if (numel < 0) {
    throw ArgumentError(concat("make_buffer: numel must be >= 0, got ", numel));
  }
  return operate("make_buffer", numel * static_cast<std::int64_t>(like.element_size()),
                 [&] { return do_make_buffer(numel, like); });
}

std::unique_ptr<Communicator> Communicator::duplicate() {
  auto copy = operate("duplicate", 0, [&] { return do_duplicate(); });
  copy->set_timeout(timeout_);
  return copy;
}

void Communicator::close() {
  if (closed_) return;
  operate("close", 0, [&] { do_close(); });
  closed_ = true;
  break_off("the communicator has been closed");
}

void Communicator::abort(const std::string& reason, ExitCode exit_code) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!broken_.empty()) return;
  }
  do_abort(reason, exit_code);
  break_off("this rank has left with an error");
}

}  // namespace torch_accelerated
