// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/activation_checkpoint.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/torch.h>

#include <algorithm>
#include <unordered_set>

#include "accelerator/random_state.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using Tensors = std::vector<torch::Tensor>;
using Function = std::function<Tensors(const Tensors&)>;

/// Autocast of one kind of device, as it is at some time.
struct AutocastState {
  explicit AutocastState(c10::DeviceType type_)
      : type(type_),
        enabled(at::autocast::is_autocast_enabled(type_)),
        dtype(at::autocast::get_autocast_dtype(type_)) {}

  void restore() const {
    at::autocast::set_autocast_enabled(type, enabled);
    at::autocast::set_autocast_dtype(type, dtype);
  }

  c10::DeviceType type;
  bool enabled;
  at::ScalarType dtype;
};

/// What the second run must find as it was at the first.
struct Surroundings {
  TensorDict random = random_states();
  std::vector<AutocastState> autocast{AutocastState(c10::kCPU), AutocastState(c10::kCUDA)};

  void restore() const {
    set_random_states(random);
    for (const auto& state : autocast) state.restore();
  }
};

/// Puts the surroundings of the first run into the place of the present ones for a scope.
class AsInForward {
 public:
  explicit AsInForward(const Surroundings& forward) {
    forward.restore();
    at::autocast::increment_nesting();
  }
  ~AsInForward() {
    // Its cache may hold casts that belong to the graph of the second run.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    present_.restore();
  }
  AsInForward(const AsInForward&) = delete;
  AsInForward& operator=(const AsInForward&) = delete;

 private:
  Surroundings present_;
};

struct Segment : torch::CustomClassHolder {
  explicit Segment(Function function_) : function(std::move(function_)) {}

  Function function;
  Surroundings surroundings;
  Tensors leaves;  // that the function uses beside its inputs, such as parameters
};

// The same numbers, where a graph begins.
Tensors without_graph(const Tensors& tensors) {
  Tensors leaves;
  for (const auto& tensor : tensors) {
    leaves.push_back(tensor.detach().set_requires_grad(tensor.requires_grad()));
  }
  return leaves;
}

// The leaves of a graph that need gradients, but `inputs`.
Tensors leaves_of(const Tensors& outputs, const Tensors& inputs) {
  std::unordered_set<const torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> next;
  const auto visit = [&](torch::autograd::Node* node) {
    if (node != nullptr && seen.insert(node).second) next.push_back(node);
  };
  for (const auto& output : outputs) {
    if (output.defined()) visit(output.grad_fn().get());
  }
  Tensors leaves;
  while (!next.empty()) {
    auto* node = next.back();
    next.pop_back();
    if (const auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
      const bool is_input = std::any_of(inputs.begin(), inputs.end(), [&](const auto& input) {
        return input.is_same(leaf->variable);
      });
      if (!is_input) leaves.push_back(leaf->variable);
    }
    for (const auto& edge : node->next_edges()) visit(edge.function.get());
  }
  return leaves;
}

// The gradients of inputs, then of the other leaves, by running the segment once more.
Tensors gradients_by_second_run(const Segment& segment, const Tensors& inputs,
                                const Tensors& of_outputs) {
  Tensors roots;
  Tensors of_roots;
  {
    const AsInForward surroundings(segment.surroundings);
    const torch::AutoGradMode with_graph(true);
    const auto outputs = segment.function(inputs);
    for (std::size_t i = 0; i < outputs.size() && i < of_outputs.size(); ++i) {
      if (!outputs[i].defined() || !outputs[i].requires_grad() || !of_outputs[i].defined())
        continue;
      roots.push_back(outputs[i]);
      of_roots.push_back(of_outputs[i]);
    }
  }
  Tensors wanted;
  for (const auto& input : inputs) {
    if (input.requires_grad()) wanted.push_back(input);
  }
  wanted.insert(wanted.end(), segment.leaves.begin(), segment.leaves.end());
  if (roots.empty() || wanted.empty()) return Tensors(inputs.size() + segment.leaves.size());
  const auto found = torch::autograd::grad(roots, wanted, of_roots, /*retain_graph=*/std::nullopt,
                                           /*create_graph=*/false, /*allow_unused=*/true);
  Tensors gradients;
  auto next = found.begin();
  for (const auto& input : inputs) {
    gradients.push_back(input.requires_grad() ? *next++ : torch::Tensor());
  }
  gradients.insert(gradients.end(), next, found.end());
  return gradients;
}

class Checkpointed : public torch::autograd::Function<Checkpointed> {
 public:
  // `outputs` have been made before; inputs and leaves are given for the graph to lead to them.
  static Tensors forward(torch::autograd::AutogradContext* context,
                         const c10::intrusive_ptr<Segment>& segment, const Tensors& outputs,
                         at::TensorList inputs, at::TensorList /*leaves*/) {
    context->saved_data["segment"] = torch::IValue::make_capsule(segment);
    context->save_for_backward(inputs.vec());
    Tensors own;
    Tensors constant;
    for (const auto& output : outputs) {
      own.push_back(output.detach());
      if (!output.requires_grad()) constant.push_back(own.back());
    }
    context->mark_non_differentiable(constant);
    return own;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& of_outputs) {
    const auto segment =
        c10::static_intrusive_pointer_cast<Segment>(context->saved_data["segment"].toCapsule());
    const auto inputs = without_graph(context->get_saved_variables());
    Tensors of_arguments(2);  // of the segment and the outputs
    const auto gradients = gradients_by_second_run(*segment, inputs, of_outputs);
    of_arguments.insert(of_arguments.end(), gradients.begin(), gradients.end());
    return of_arguments;
  }
};

void check_defined(const Tensors& tensors, const char* what) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].defined()) continue;
    throw ArgumentError(concat("checkpoint: ", what, " ", i, " is undefined; leave it out"));
  }
}

}  // namespace

// The first run makes its graph too, to see which leaves it leads to, and drops it.
Tensors checkpoint(Function function, Tensors inputs) {
  if (!function) throw ArgumentError("checkpoint: the function is empty; give one");
  if (!torch::GradMode::is_enabled()) return function(inputs);
  check_defined(inputs, "input");
  auto segment = c10::make_intrusive<Segment>(std::move(function));
  const auto beginning = without_graph(inputs);
  auto outputs = segment->function(beginning);
  check_defined(outputs, "output");
  segment->leaves = leaves_of(outputs, beginning);
  const bool any = std::any_of(outputs.begin(), outputs.end(),
                               [](const auto& output) { return output.requires_grad(); });
  if (!any) return outputs;
  const Tensors leaves = segment->leaves;
  return Checkpointed::apply(segment, outputs, at::TensorList(inputs), at::TensorList(leaves));
}

torch::Tensor checkpoint(std::function<torch::Tensor(const torch::Tensor&)> function,
                         const torch::Tensor& input) {
  if (!function) throw ArgumentError("checkpoint: the function is empty; give one");
  const Function of_list = [one = std::move(function)](const Tensors& inputs) {
    return Tensors{one(inputs.front())};
  };
  return checkpoint(of_list, Tensors{input}).front();
}

}  // namespace torch_accelerated
