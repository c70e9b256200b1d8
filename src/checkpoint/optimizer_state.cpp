// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/optimizer_state.h"

#include <torch/torch.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "base/text.h"
#include "checkpoint/optimizer_fields.h"
#include "checkpoint/optimizer_visitors.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/stateful.h"

namespace torch_accelerated {
namespace {

using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

const std::string& name_of(const torch::Tensor& parameter, const ParameterNames& names) {
  const auto found = names.find(parameter.unsafeGetTensorImpl());
  if (found != names.end()) return found->second;
  throw ArgumentError(concat("an optimizer holds a parameter of shape ", parameter.sizes(),
                             " that no module of the run has, so that a checkpoint has no name for "
                             "it; add its module with register_module()"));
}

std::string names_in(const torch::optim::OptimizerParamGroup& group, const ParameterNames& names) {
  std::string text;
  for (const auto& parameter : group.params()) {
    if (!text.empty()) text += '\n';
    text += name_of(parameter, names);
  }
  return text;
}

template <class TheTypes>
void write(Optimizer& optimizer, const ParameterNames& names, State& state) {
  auto& groups = optimizer.param_groups();
  state.set("groups", static_cast<std::int64_t>(groups.size()));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto prefix = concat("group/", i, "/");
    state.set(prefix + "parameters", names_in(groups[i], names));
    visit_fields(static_cast<typename TheTypes::OptionsType&>(groups[i].options()),
                 Writer(state, prefix));
    for (const auto& parameter : groups[i].params()) {
      const auto kept = optimizer.state().find(parameter.unsafeGetTensorImpl());
      if (kept == optimizer.state().end() || !kept->second) continue;
      visit_fields(static_cast<typename TheTypes::ParamStateType&>(*kept->second),
                   ParameterWriter(state, name_of(parameter, names) + "/"));
    }
  }
}

// What has been read, until all of it is known to fit.
struct Loaded {
  std::vector<std::unique_ptr<OptimizerOptions>> options;
  std::vector<std::pair<void*, std::unique_ptr<OptimizerParamState>>> states;
};

void check_groups(Optimizer& optimizer, const ParameterNames& names, const State& state,
                  const std::string& what) {
  const auto& groups = optimizer.param_groups();
  const auto count = state.get<std::int64_t>("groups");
  if (count != static_cast<std::int64_t>(groups.size())) {
    throw CheckpointError(concat(what, " has ", groups.size(), " param groups, ", count,
                                 " in the checkpoint; make it of the same groups"));
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto& saved = state.get<std::string>(concat("group/", i, "/parameters"));
    const auto mine = names_in(groups[i], names);
    if (saved == mine) continue;
    // The first name in which they differ.
    std::size_t line = 0;
    std::size_t at = 0;
    for (; at < saved.size() && at < mine.size() && saved[at] == mine[at]; ++at) {
      if (saved[at] == '\n') line = at + 1;
    }
    const auto& longer = saved.size() > mine.size() ? saved : mine;
    if (at == std::min(saved.size(), mine.size()) && longer[at] == '\n') line = at + 1;
    const auto name_at = [line](const std::string& text) {
      return line >= text.size() ? "none"
                                 : "'" + text.substr(line, text.find('\n', line) - line) + "'";
    };
    throw CheckpointError(concat(what, ": param group ", i, " has the parameter ", name_at(mine),
                                 " where the checkpoint has ", name_at(saved),
                                 "; give the optimizer the same parameters in the same order"));
  }
}

// What the state has of each parameter, under the same names: found at once, however many there
// are.
std::unordered_map<std::string, State> by_parameter(const State& state) {
  std::unordered_map<std::string, State> parts;
  const auto parameter_of = [](const std::string& name) { return name.substr(0, name.rfind('/')); };
  for (const auto& [name, tensor] : state.tensors()) {
    parts[parameter_of(name)].set_tensor(name, tensor);
  }
  for (const auto& [name, value] : state.values()) {
    // "type" and "groups" are no parameter's, whatever parameters are called.
    if (name.find('/') != name.npos) parts[parameter_of(name)].set(name, value);
  }
  return parts;
}

// As LBFGS lays out its tensors.
torch::Tensor flat(const std::vector<torch::Tensor>& parameters) {
  std::int64_t size = 0;
  for (const auto& parameter : parameters) size += parameter.numel();
  return torch::empty(size, parameters.front().options().requires_grad(false));
}

template <class TheTypes>
Loaded read(Optimizer& optimizer, const ParameterNames& names, const State& state,
            const std::string& what) {
  Loaded loaded;
  const auto kept_of = by_parameter(state);
  auto& groups = optimizer.param_groups();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    auto& options = *loaded.options.emplace_back(groups[i].options().clone());
    visit_fields(static_cast<typename TheTypes::OptionsType&>(options),
                 Reader(state, concat("group/", i, "/"), {}, what));
    for (const auto& parameter : groups[i].params()) {
      const auto& name = name_of(parameter, names);
      const auto found = kept_of.find(name);
      if (found == kept_of.end()) continue;
      auto kept = std::make_unique<typename TheTypes::ParamStateType>();
      // LBFGS keeps numbers and flat tensors of all parameters, the others one like the parameter.
      constexpr bool kIsFlat = std::is_same_v<typename TheTypes::OptimType, torch::optim::LBFGS>;
      Reader reader(found->second, name + "/",
                    kIsFlat ? flat(groups[i].params()) : parameter.detach(), what);
      if (kIsFlat) reader.accept_numbers();
      visit_fields(*kept, reader);
      loaded.states.emplace_back(parameter.unsafeGetTensorImpl(), std::move(kept));
    }
  }
  return loaded;
}

}  // namespace

std::string type_name(const Optimizer& optimizer) {
  auto type = c10::demangle(typeid(optimizer).name());
  if (const auto last = type.rfind("::"); last != std::string::npos) type.erase(0, last + 2);
  return type;
}

State optimizer_state(Optimizer& optimizer, const ParameterNames& names) {
  State state;
  state.set("type", type_name(optimizer));
  if (const auto* own = dynamic_cast<const Stateful*>(&optimizer)) {
    state.set_part("own", own->state());
    return state;
  }
  const bool known = with_types(
      optimizer, [&]<class TheTypes>(TheTypes) { write<TheTypes>(optimizer, names, state); });
  if (known) return state;
  throw ArgumentError(concat("the optimizer, a ", type_name(optimizer),
                             ", is none of LibTorch's own and doesn't implement Stateful, so that "
                             "no checkpoint can hold its state; derive it from Stateful too"));
}

void load_optimizer_state(Optimizer& optimizer, const ParameterNames& names, const State& state,
                          const std::string& what) try {
  const auto& saved_type = state.get<std::string>("type");
  if (saved_type != type_name(optimizer)) {
    throw CheckpointError(concat(what, " is a ", type_name(optimizer), ", a ", saved_type,
                                 " in the checkpoint; use the same optimizer"));
  }
  if (auto* own = dynamic_cast<Stateful*>(&optimizer)) return own->load_state(state.part("own"));
  const bool known = with_types(optimizer, [&]<class TheTypes>(TheTypes) {
    check_groups(optimizer, names, state, what);
    auto loaded = read<TheTypes>(optimizer, names, state, what);
    auto& groups = optimizer.param_groups();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      groups[i].set_options(std::move(loaded.options[i]));
    }
    auto& kept = optimizer.state();
    kept.clear();
    for (auto& [key, parameter_state] : loaded.states) kept[key] = std::move(parameter_state);
  });
  if (known) return;
  throw CheckpointError(concat(what, ", a ", type_name(optimizer), " that isn't LibTorch's own, ",
                               "doesn't implement Stateful, so that its state can't be given back; "
                               "derive it from Stateful too"));
} catch (const StateError& error) {
  throw CheckpointError(concat(what, ": ", error.what()));
}

}  // namespace torch_accelerated
