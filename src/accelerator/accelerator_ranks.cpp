// SPDX-License-Identifier: Apache-2.0
// What ranks tell each other beside gradients.
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "accelerator/channels_last.h"
#include "accelerator/host_memory.h"
#include "accelerator/module_contract.h"
#include "accelerator/reduction.h"
#include "base/text.h"
#include "distributed/contract.h"
#include "torch_accelerated/accelerator/accelerator.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

unsigned bit_of(Trigger trigger) { return static_cast<unsigned>(trigger); }

// `tensor` with its dimensions but the first filled up to `sizes`.
torch::Tensor padded(const torch::Tensor& tensor, const std::vector<std::int64_t>& sizes,
                     double padding) {
  auto shape = sizes;
  shape[0] = tensor.size(0);
  auto larger = torch::full(shape, padding, tensor.options());
  auto place = larger;
  for (std::int64_t i = 1; i < tensor.dim(); ++i) place = place.narrow(i, 0, tensor.size(i));
  place.copy_(tensor);
  return larger;
}

// Of gradients in half precision, unscaling would make zeros.
void check_can_be_scaled(const torch::nn::Module& module, const std::string& name) {
  for (const auto& item : named_tensors(module, name)) {
    const auto dtype = item.value.scalar_type();
    if (!item.value.requires_grad() || (dtype != torch::kHalf && dtype != torch::kBFloat16)) {
      continue;
    }
    throw ArgumentError(concat("prepare: the parameter '", item.name, "' is ", item.value.dtype(),
                               ", and MixedPrecision::kFp16 needs it in float32, in which its "
                               "gradients are unscaled; leave the model in float32"));
  }
}

}  // namespace

void Accelerator::prepare(torch::nn::Module& module, const std::string& name) {
  if (mixed_precision() == MixedPrecision::kFp16) check_can_be_scaled(module, name);
  module.to(device_);
  if (options_.channels_last) lay_out_channels_last(module);
  for (const auto& item : named_tensors(module, name)) {
    reduction_->names[item.value.unsafeGetTensorImpl()] = item.name;
  }
  if (options_.capture_graph) {
    reduction_->modules[&module] = module.weak_from_this();
    for (const auto& part : module.modules(/*include_self=*/false)) {
      reduction_->modules[part.get()] = part;
    }
    auto& tensors = reduction_->tensors;
    std::erase_if(tensors, [](const auto& tensor) { return tensor.expired(); });
    for (const auto& item : named_tensors(module, name)) {
      tensors.emplace_back(item.value.getIntrusivePtr());
    }
  }
  if (world_size() == 1) return;
  auto& group = reduction_->sync_batch_norm;
  const auto layers = connect_sync_batch_norm(module, group);
  Contract contract("prepare");
  add_module(contract, module, name);
  contract.add("SyncBatchNorm layers", concat(layers));
  if (layers > 0 && options_.capture_graph) {
    contract.refuse(
        "capture_graph can't be had with SyncBatchNorm, whose ranks meet on the host; take "
        "BatchNorm, or set capture_graph to false",
        ExitCode::kOptions);
  }
  contract.check(*world_.control);
  if (layers > 0 && !group->communicator) group->communicator = world_.control->duplicate();
  const torch::NoGradGuard no_grad;
  for (const auto& item : named_tensors(module, name)) {
    auto dense = item.value.detach().contiguous();
    world_.control->broadcast(dense, 0);
    if (!item.value.is_contiguous()) item.value.detach().copy_(dense);
  }
}

void Accelerator::together(const std::string& call, const std::function<void()>& body) {
  if (world_size() == 1) return body();
  Contract contract(call);
  std::exception_ptr error;
  try {
    body();
  } catch (const CommunicationError&) {
    throw;  // nothing more can be told
  } catch (Error& known) {
    if (known.is_on_all_ranks()) throw;
    error = std::current_exception();
    contract.refuse(known.what(), known.exit_code());
  } catch (const std::exception& unknown) {
    error = std::current_exception();
    contract.refuse(concat(call, ": ", unknown.what()), ExitCode::kUserCode);
  } catch (...) {
    error = std::current_exception();
    contract.refuse(concat(call, ": an object that is no std::exception"), ExitCode::kUserCode);
  }
  try {
    contract.check(*world_.control);
  } catch (const Error& told) {
    // The rank that failed has more to tell than its text, once the others know it.
    const bool is_refusal = dynamic_cast<const ArgumentError*>(&told) != nullptr;
    if (!error || is_refusal || !told.is_on_all_ranks()) throw;
  }
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (Error& known) {
    known.set_on_all_ranks();
    throw;
  }
}

std::string Accelerator::reduction_description() const {
  if (world_size() == 1) return "none";
  const auto compression = options_.gradient_compression;
  const bool is_compressed = compression != GradientCompression::kNone;
  return concat(world_.gradients->name(), ", buckets of ", options_.bucket_bytes >> 10, " KiB ",
                is_compressed ? concat("in ", to_string(compression), " ") : "",
                options_.overlap == Overlap::kOn ? "during backward" : "when backward has ended");
}

std::string Accelerator::memory_description() const {
  return concat(options_.channels_last ? "channels last" : "as the model has it",
                keeps_host_memory_ ? ", freed memory kept" : "");
}

void Accelerator::free_memory() {
  give_back_freed_memory();
  if (!device_.is_cpu()) c10::getDeviceAllocator(device_.type())->emptyCache();
}

const char* to_string(GradientCompression compression) {
  switch (compression) {
    case GradientCompression::kNone:
      return "none";
    case GradientCompression::kBf16:
      return "bf16";
    case GradientCompression::kFp16:
      return "fp16";
  }
  return "unknown";
}

void Accelerator::set_trigger(Trigger trigger) noexcept {
  reduction_->triggers.fetch_or(bit_of(trigger));
}

void Accelerator::withdraw_trigger(Trigger trigger) noexcept {
  reduction_->triggers.fetch_and(~bit_of(trigger));
}

bool Accelerator::is_triggered(Trigger trigger) const noexcept {
  return std::any_of(reduction_->ranks.begin(), reduction_->ranks.end(),
                     [&](const RankStatus& rank) { return rank.triggers & bit_of(trigger); });
}

bool Accelerator::take_trigger(Trigger trigger) noexcept {
  if (!is_triggered(trigger)) return false;
  withdraw_trigger(trigger);
  for (auto& rank : reduction_->ranks) rank.triggers &= ~bit_of(trigger);
  return true;
}

void Accelerator::exchange_triggers() {
  RankStatus mine;
  mine.triggers = reduction_->triggers.load();
  if (world_size() == 1) {
    reduction_->ranks = {mine};
    return;
  }
  const auto bits = torch::full({1}, static_cast<std::int64_t>(mine.triggers), torch::kInt64);
  reduction_->ranks.clear();
  for (const auto& part : world_.control->all_gather(bits)) {
    RankStatus status;
    status.triggers = static_cast<unsigned>(part.item<std::int64_t>());
    reduction_->ranks.push_back(status);
  }
}

std::vector<int> Accelerator::ranks_not_finite() const {
  std::vector<int> ranks;
  for (std::size_t rank = 0; rank < reduction_->ranks.size(); ++rank) {
    if (reduction_->ranks[rank].not_finite) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

torch::Tensor Accelerator::gather(const torch::Tensor& tensor) {
  if (world_size() == 1) return tensor;
  return torch::cat(world_.control->all_gather(tensor.detach().contiguous()));
}

torch::Tensor Accelerator::gather(const torch::Tensor& tensor, double padding) {
  if (world_size() == 1 || tensor.dim() < 2) return gather(tensor);
  auto sizes = tensor.sizes().vec();
  for (const auto& part : world_.control->all_gather(torch::tensor(sizes, torch::kInt64))) {
    const auto* other = part.const_data_ptr<std::int64_t>();
    for (std::size_t i = 0; i < sizes.size() && part.numel() == tensor.dim(); ++i) {
      sizes[i] = std::max(sizes[i], other[i]);
    }
  }
  return gather(padded(tensor.detach(), sizes, padding));
}

std::vector<std::string> Accelerator::gather_objects(const std::string& bytes) {
  return world_.control->all_gather(bytes);
}

torch::Tensor Accelerator::reduce(const torch::Tensor& tensor) {
  std::array<torch::Tensor, 1> sums{tensor.detach().clone(at::MemoryFormat::Contiguous)};
  world_.control->all_reduce(sums);
  return sums.front();
}

torch::Tensor Accelerator::broadcast(const torch::Tensor& tensor, int root) {
  auto copy = tensor.detach().clone(at::MemoryFormat::Contiguous);
  world_.control->broadcast(copy, root);
  return copy;
}

bool Accelerator::any(bool mine) {
  if (world_size() == 1) return mine;
  const auto parts = world_.control->all_gather(torch::full({1}, mine ? 1 : 0, torch::kUInt8));
  return std::any_of(parts.begin(), parts.end(),
                     [](const torch::Tensor& part) { return part.item<std::uint8_t>() != 0; });
}

void Accelerator::barrier() { world_.control->barrier(); }

void Accelerator::main_process_first(const std::function<void()>& body) {
  together("main_process_first", [&] {
    if (is_main_process()) body();
  });
  together("main_process_first", [&] {
    if (!is_main_process()) body();
  });
}

void Accelerator::abort(const std::string& line, ExitCode exit_code) noexcept {
  world_.abort(line, exit_code);
}

void Accelerator::set_rows_count(bool count) noexcept {
  reduction_->sync_batch_norm->rows_count = count;
}

void Accelerator::close() {
  // Gradients leave the memory that is about to go, and NCCL waits for graphs that have its work.
  reduction_->graphs.reset();
  reduction_->late.clear();
  reduction_->slots.clear();
  reduction_->buffers.clear();
  if (auto& layers = reduction_->sync_batch_norm->communicator) layers->close();
  world_.close();
}

void Accelerator::print(std::string_view line) const {
  if (!is_main_process()) return;
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

}  // namespace torch_accelerated
