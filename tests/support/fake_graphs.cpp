// SPDX-License-Identifier: Apache-2.0
#include "support/fake_graphs.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <atomic>
#include <set>
#include <stdexcept>
#include <utility>

#include "accelerator/operation_recorder.h"

namespace tests {
namespace {

namespace ta = torch_accelerated;

std::atomic<int> graphs_made = 0;
std::atomic<int> replays_made = 0;

class FakeGraph;
thread_local FakeGraph* recording = nullptr;

void each_tensor(const c10::IValue& value, const std::function<void(const at::Tensor&)>& body) {
  if (value.isTensor() && value.toTensor().defined()) body(value.toTensor());
  if (value.isTensorList()) {
    for (const auto& tensor : value.toTensorVector()) body(tensor);
  }
}

class FakeGraph : public ta::DeviceGraph, private ta::OperationRecorder {
 public:
  explicit FakeGraph(const std::function<void()>& work) {
    recording = this;
    struct Scope {
      ~Scope() { recording = nullptr; }
    } const scope;
    auto generator = at::detail::getDefaultCPUGenerator();
    const auto random = generator.get_state();
    watch(work);
    // A device does nothing while it records.
    const torch::NoGradGuard no_grad;
    for (const auto& [memory, before] : written_) memory.copy_(before);
    written_.clear();
    generator.set_state(random);
    ++graphs_made;
  }

  void replay() override {
    const torch::NoGradGuard no_grad;
    for (const auto& step : steps_) step();
    ++replays_made;
  }

  void call(const std::function<void()>& work) {
    steps_.push_back(work);
    unwatched(work);
  }

 private:
  void operate(const c10::OperatorHandle& op, c10::DispatchKeySet /*keys*/,
               torch::jit::Stack& stack) override {
    const auto& schema = op.schema();
    refuse_waits(schema.name());
    const auto count = schema.arguments().size();
    const std::vector<c10::IValue> arguments(stack.end() - static_cast<std::ptrdiff_t>(count),
                                             stack.end());
    save_written(schema, arguments);
    op.callBoxed(&stack);
    const std::vector<c10::IValue> results(
        stack.end() - static_cast<std::ptrdiff_t>(schema.returns().size()), stack.end());
    bool is_view = false;
    bool is_new = !schema.returns().empty();
    for (const auto& of_result : schema.returns()) {
      if (of_result.alias_info() == nullptr) continue;
      is_new = false;
      is_view = is_view || !of_result.alias_info()->isWrite();
    }
    if (is_view) return;
    if (is_new) {
      for (const auto& result : results) {
        each_tensor(result, [&](const at::Tensor& tensor) { own_.insert(memory_of(tensor)); });
      }
    }
    steps_.push_back([op, arguments, results, is_new] {
      torch::jit::Stack again = arguments;
      op.callBoxed(&again);
      if (!is_new) return;
      for (std::size_t i = 0; i < results.size(); ++i) write_over(results[i], again[i]);
    });
  }

  static const void* memory_of(const at::Tensor& tensor) {
    return tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
  }

  static void refuse_waits(const std::string& name) {
    static const std::set<std::string> waits{"aten::_local_scalar_dense", "aten::nonzero",
                                             "aten::equal", "aten::_unique2"};
    if (!waits.contains(name)) return;
    throw std::runtime_error("operation not permitted when stream is capturing (" + name + ")");
  }

  // Memory from before that the operation is about to write to.
  void save_written(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& arguments) {
    const torch::NoGradGuard no_grad;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const auto& argument = schema.arguments()[i];
      const auto* alias = argument.alias_info();
      // Which the schema of a batch norm doesn't say of its running statistics.
      const bool is_written = (alias != nullptr && alias->isWrite()) ||
                              argument.name() == "running_mean" || argument.name() == "running_var";
      if (!is_written) continue;
      each_tensor(arguments[i], [&](const at::Tensor& tensor) {
        if (!own_.insert(memory_of(tensor)).second) return;
        const auto all = at::empty({0}, at::kByte).set_(tensor.storage());
        written_.emplace_back(all, all.clone());
      });
    }
  }

  static void write_over(const c10::IValue& old, const c10::IValue& fresh) {
    std::vector<at::Tensor> to;
    std::vector<at::Tensor> from;
    each_tensor(old, [&](const at::Tensor& tensor) { to.push_back(tensor); });
    each_tensor(fresh, [&](const at::Tensor& tensor) { from.push_back(tensor); });
    for (std::size_t i = 0; i < to.size(); ++i) to[i].copy_(from[i]);
  }

  std::vector<std::function<void()>> steps_;
  std::set<const void*> own_;  // memory that was made while recording, or has been saved
  std::vector<std::pair<at::Tensor, at::Tensor>> written_;
};

class FakeGraphDevice : public ta::GraphDevice {
 public:
  void run(const std::function<void()>& work) override { work(); }
  std::unique_ptr<ta::DeviceGraph> record(const std::function<void()>& work) override {
    return std::make_unique<FakeGraph>(work);
  }
};

}  // namespace

FakeGraphs::FakeGraphs() {
  graphs_made = 0;
  replays_made = 0;
  ta::graph_device_maker(c10::kCPU) = [](c10::Device) -> std::unique_ptr<ta::GraphDevice> {
    return std::make_unique<FakeGraphDevice>();
  };
}

FakeGraphs::~FakeGraphs() { ta::graph_device_maker(c10::kCPU) = ta::host_graph_device_maker(); }

int FakeGraphs::recorded() const noexcept { return graphs_made; }
int FakeGraphs::replayed() const noexcept { return replays_made; }

void FakeGraphs::call(const std::function<void()>& work) {
  recording == nullptr ? work() : recording->call(work);
}

}  // namespace tests
