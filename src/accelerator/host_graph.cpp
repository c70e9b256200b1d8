// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "accelerator/device_graph.h"
#include "accelerator/ivalue_tensors.h"
#include "accelerator/operation_recorder.h"
#include "accelerator/out_variants.h"
#include "accelerator/recordable.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using torch::jit::Stack;

const void* memory_of(const at::Tensor& tensor) { return tensor.storage().unsafeGetStorageImpl(); }

/// The same memory seen in the same way, whatever becomes of `tensor` itself.
at::Tensor as_it_is(const at::Tensor& tensor) {
  return at::Tensor(tensor.unsafeGetTensorImpl()->shallow_copy_and_detach(
      /*version_counter=*/0, /*allow_tensor_metadata_change=*/false));
}

/// A kernel's call.
struct KernelCall {
  c10::OperatorHandle operation;
  c10::DispatchKeySet keys;
  bool grad_mode;  // in which some kernels keep more for a backward
  Stack arguments;
  Stack results;  // to which what it gives is copied; empty where it writes to its arguments
};

/// Of the operations on the CPU, those kernels that do something: views are only made once, and
/// what gives a new tensor writes to the first one's memory.
class HostGraph : public DeviceGraph, private OperationRecorder {
 public:
  explicit HostGraph(const std::function<void()>& work) {
    generators_.insert(at::detail::getDefaultCPUGenerator());
    watch(work);
    own_.clear();
  }

  void replay() override {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const c10::impl::ExcludeDispatchKeyGuard below_autocast(c10::autocast_dispatch_keyset);
    const c10::AutoGradMode grad_mode(false);  // calls have their own; puts it back in the end
    for (const auto& call : calls_) repeat(call);
  }

  std::vector<c10::Storage> outside() const override {
    std::vector<c10::Storage> storages;
    storages.reserve(outside_.size());
    for (const auto& [key, storage] : outside_) storages.push_back(storage);
    return storages;
  }

  std::function<void()> kept() const override {
    std::vector<std::pair<at::Tensor, at::Tensor>> memory;
    for (const auto& [key, storage] : outside_) {
      const auto bytes = at::empty({0}, at::kByte).set_(storage);
      memory.emplace_back(bytes, bytes.clone());
    }
    std::vector<std::pair<at::Generator, at::Tensor>> random;
    random.reserve(generators_.size());
    for (const auto& generator : generators_) random.emplace_back(generator, generator.get_state());
    return [memory = std::move(memory), random = std::move(random)] {
      for (const auto& [bytes, before] : memory) bytes.copy_(before);
      for (auto [generator, before] : random) generator.set_state(before);
    };
  }

 private:
  struct ByIdentity {
    bool operator()(const at::Generator& a, const at::Generator& b) const noexcept {
      return a.unsafeGetGeneratorImpl() < b.unsafeGetGeneratorImpl();
    }
  };

  void operate(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
               Stack& stack) override {
    const auto& schema = operation.schema();
    KernelCall call{operation, keys, c10::GradMode::is_enabled(), {}, {}};
    const auto below = stack.size() - schema.arguments().size();
    for (auto i = below; i < stack.size(); ++i) {
      call.arguments.push_back(with_tensors(stack[i], as_it_is));
    }
    require_recordable(operation, call.arguments);
    for (const auto& argument : call.arguments) note_outside(operation, argument);
    do_it(operation, keys, stack);
    const Stack results(stack.begin() + static_cast<std::ptrdiff_t>(below), stack.end());
    if (!makes_memory(call, results)) {
      // Without a result it may be a check, which throws.
      if (changes_memory(schema) || results.empty()) add(std::move(call));
      return;
    }
    require_copyable(operation, results);
    for (const auto& result : results) {
      each_tensor(result, [&](const at::Tensor& tensor) {
        own_.emplace(memory_of(tensor), tensor.storage());
      });
      call.results.push_back(with_tensors(result, as_it_is));
    }
    if (!schema.name().starts_with("aten::empty")) add(std::move(call));
  }

  // All that it is given from before the recording; a kernel may write to it whatever its schema
  // says.
  void note_outside(const c10::OperatorHandle& operation, const c10::IValue& value) {
    if (value.isGenerator()) generators_.insert(value.toGenerator());
    each_tensor(value, [&](const at::Tensor& tensor) {
      const auto& storage = tensor.storage();
      if (own_.contains(memory_of(tensor))) return;
      if (storage.nbytes() > 0 && storage.data_ptr().get_context() == nullptr) {
        throw CannotRecord(concat(operation.schema().name(),
                                  " has a tensor over memory that isn't ",
                                  "LibTorch's, as from_blob makes it: clone() it"));
      }
      outside_.emplace(memory_of(tensor), storage);
    });
  }

  // Results may be arguments, or views of them, which a schema only says that they can be.
  static bool makes_memory(const KernelCall& call, const Stack& results) {
    if (results.empty()) return false;
    for (const auto& result : call.operation.schema().returns()) {
      if (result.alias_info() != nullptr && result.alias_info()->isWrite()) return false;
    }
    std::unordered_set<const void*> given;
    for (const auto& argument : call.arguments) {
      each_tensor(argument, [&](const at::Tensor& tensor) { given.insert(memory_of(tensor)); });
    }
    bool is_new = true;
    for (const auto& result : results) {
      each_tensor(result,
                  [&](const at::Tensor& tensor) { is_new &= !given.contains(memory_of(tensor)); });
    }
    return is_new;
  }

  static bool changes_memory(const c10::FunctionSchema& schema) {
    return std::any_of(schema.arguments().begin(), schema.arguments().end(), [](const auto& each) {
      const auto* alias = each.alias_info();
      // Which the schema of a batch norm doesn't say of its running statistics.
      return (alias != nullptr && alias->isWrite()) || each.name() == "running_mean" ||
             each.name() == "running_var";
    });
  }

  void add(KernelCall call) {
    if (call.operation.hasTag(at::Tag::inplace_view)) return;  // it changed how, not what
    // Only ATen's own are known to change nothing that their schema doesn't say.
    const auto& schema = call.operation.schema();
    const bool may_be_tried = schema.name().starts_with("aten::") && !changes_memory(schema);
    const auto variant =
        may_be_tried ? out_variant(call.operation, call.arguments, call.results) : std::nullopt;
    if (variant) {
      call.operation = *variant;
      call.arguments.insert(call.arguments.end(), call.results.begin(), call.results.end());
      call.results.clear();
    }
    calls_.push_back(std::move(call));
  }

  void repeat(const KernelCall& call) {
    stack_.assign(call.arguments.begin(), call.arguments.end());
    c10::GradMode::set_enabled(call.grad_mode);
    do_it(call.operation, call.keys, stack_);
    for (std::size_t i = 0; i < call.results.size(); ++i) copy(call, stack_[i], call.results[i]);
    stack_.clear();
  }

  static void copy(const KernelCall& call, const c10::IValue& from, const c10::IValue& to) {
    if (to.isTensor() && to.toTensor().defined()) copy(call, from.toTensor(), to.toTensor());
    if (!to.isTensorList()) return;
    const auto tensors = to.toTensorVector();
    const auto fresh = from.toTensorVector();
    for (std::size_t i = 0; i < tensors.size(); ++i) copy(call, fresh[i], tensors[i]);
  }

  static void copy(const KernelCall& call, const at::Tensor& from, const at::Tensor& to) {
    if (from.sizes() != to.sizes()) {
      throw StateError(concat("capture_graph: ", call.operation.schema().name(),
                              " gave a tensor of ", from.sizes(), " where it gave one of ",
                              to.sizes(),
                              " when the step was captured; set capture_graph to false"));
    }
    to.copy_(from);
  }

  std::vector<KernelCall> calls_;
  Stack stack_;
  std::unordered_map<const void*, c10::Storage> own_;      // what is made while it is recorded
  std::unordered_map<const void*, c10::Storage> outside_;  // what there was before, of what it has
  std::set<at::Generator, ByIdentity> generators_;
};

class HostGraphDevice : public GraphDevice {
 public:
  void run(const std::function<void()>& work) override { work(); }

  std::unique_ptr<DeviceGraph> record(const std::function<void()>& work) override {
    return std::make_unique<HostGraph>(work);
  }

  bool is_done_while_recorded() const noexcept override { return true; }
};

}  // namespace

GraphDeviceMaker host_graph_device_maker() {
  return [](c10::Device) -> std::unique_ptr<GraphDevice> {
    return std::make_unique<HostGraphDevice>();
  };
}

}  // namespace torch_accelerated
