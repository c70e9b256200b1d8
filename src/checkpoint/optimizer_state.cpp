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
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/core/stateful.h"

namespace torch_accelerated {
namespace {

using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

/// Puts fields into a State; those of the options go to `prefix`.
class Writer {
 public:
  Writer(State& state, std::string prefix) : state_(state), prefix_(std::move(prefix)) {}

  void operator()(const char* name, bool value) { set(name, value); }
  void operator()(const char* name, double value) { set(name, value); }
  void operator()(const char* name, const std::tuple<double, double>& value) {
    set(name, std::vector<double>{std::get<0>(value), std::get<1>(value)});
  }
  void operator()(const char* name, std::int64_t value) { set(name, value); }
  template <class Type>
  void operator()(const char* name, const std::optional<Type>& value) {
    if (value) (*this)(name, *value);
  }
  void operator()(const char* name, const std::string& value) { set(name, value); }
  void operator()(const char* name, const torch::Tensor& value) {
    if (value.defined()) state_.set_tensor(prefix_ + name, value.detach());
  }
  template <class List>
    requires std::is_same_v<typename List::value_type, torch::Tensor>
  void operator()(const char* name, const List& tensors) {
    set(concat(name, ".size").c_str(), static_cast<std::int64_t>(tensors.size()));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      (*this)(concat(name, ".", i).c_str(), tensors[i]);
    }
  }

 private:
  void set(const char* name, State::Value value) { state_.set(prefix_ + name, std::move(value)); }

  State& state_;
  std::string prefix_;
};

/// The same for what is kept of a parameter: counts are tensors, so that ten thousand parameters
/// don't become ten thousand lines of text.
class ParameterWriter : public Writer {
 public:
  ParameterWriter(State& state, const std::string& prefix) : Writer(state, prefix) {}
  using Writer::operator();
  void operator()(const char* name, std::int64_t value) {
    Writer::operator()(name, torch::full({}, value, torch::kInt64));
  }
};

/// How many tensors a list in the state of a parameter may have.
constexpr std::int64_t kListTensors = 100'000;

/// Takes fields out of a State.
class Reader {
 public:
  /// @param like  what tensors of the parameter's own shape must fit; undefined for options.
  Reader(const State& state, std::string prefix, torch::Tensor like, const std::string& what)
      : state_(state), prefix_(std::move(prefix)), like_(std::move(like)), what_(what) {}

  void operator()(const char* name, bool& value) { value = state_.get<bool>(prefix_ + name); }
  void operator()(const char* name, double& value) { value = state_.get<double>(prefix_ + name); }
  void operator()(const char* name, std::tuple<double, double>& value) {
    const auto& both = state_.get<std::vector<double>>(prefix_ + name);
    if (both.size() != 2) fail(name, concat("has ", both.size(), " numbers instead of 2"));
    value = {both[0], both[1]};
  }
  void operator()(const char* name, std::int64_t& value) {
    if (!like_.defined()) {
      value = state_.get<std::int64_t>(prefix_ + name);
      return;
    }
    const auto& tensor = state_.tensor(prefix_ + name);
    if (tensor.numel() != 1 || tensor.scalar_type() != torch::kInt64) {
      fail(name, "is no int64 number");
    }
    value = tensor.item<std::int64_t>();
  }
  template <class Type>
  void operator()(const char* name, std::optional<Type>& value) {
    value.reset();
    if (state_.contains(prefix_ + name)) value = state_.get<Type>(prefix_ + name);
  }
  void operator()(const char* name, std::optional<std::vector<torch::Tensor>>& tensors) {
    tensors.reset();
    if (!state_.contains(prefix_ + name + ".size")) return;
    (*this)(name, tensors.emplace());
  }
  void operator()(const char* name, torch::Tensor& value) {
    value = torch::Tensor();
    if (!state_.tensors().contains(prefix_ + name)) return;
    const auto& saved = state_.tensor(prefix_ + name);
    const bool is_number = accepts_numbers_ && saved.numel() == 1;
    if (!is_number &&
        (saved.sizes() != like_.sizes() || saved.scalar_type() != like_.scalar_type())) {
      fail(name, concat("is ", saved.dtype(), " of shape ", saved.sizes(), " in the checkpoint, ",
                        like_.dtype(), " of shape ", like_.sizes(), " here"));
    }
    value = saved.to(like_.device());
  }
  template <class List>
    requires std::is_same_v<typename List::value_type, torch::Tensor>
  void operator()(const char* name, List& tensors) {
    const auto size = state_.get<std::int64_t>(prefix_ + name + ".size");
    // Undefined ones, as LBFGS has of iterations to come, aren't among the state's tensors.
    if (size < 0 || size > kListTensors) {
      fail(name, concat("is a list of ", size, " tensors, expected 0 to ", kListTensors));
    }
    tensors.resize(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      (*this)(concat(name, ".", i).c_str(), tensors[i]);
    }
  }

  void accept_numbers() { accepts_numbers_ = true; }

 private:
  [[noreturn]] void fail(const char* name, const std::string& why) const {
    throw CheckpointError(concat(what_, ": '", prefix_, name, "' ", why));
  }

  const State& state_;
  std::string prefix_;
  torch::Tensor like_;
  const std::string& what_;
  bool accepts_numbers_ = false;
};

/// LibTorch's types of one optimizer.
template <class Optim, class Options, class ParamState>
struct Types {
  using OptimType = Optim;
  using OptionsType = Options;
  using ParamStateType = ParamState;
};

// Calls `body` with the Types of `optimizer`; whether it is one of LibTorch's own.
template <class Body>
bool with_types(const Optimizer& optimizer, Body&& body) {
  using namespace torch::optim;
  const auto as = [&](auto types) {
    using OptimType = typename decltype(types)::OptimType;
    if (typeid(optimizer) != typeid(OptimType)) return false;  // another may keep more
    body(types);
    return true;
  };
  return as(Types<SGD, SGDOptions, SGDParamState>()) ||
         as(Types<Adam, AdamOptions, AdamParamState>()) ||
         as(Types<AdamW, AdamWOptions, AdamWParamState>()) ||
         as(Types<RMSprop, RMSpropOptions, RMSpropParamState>()) ||
         as(Types<Adagrad, AdagradOptions, AdagradParamState>()) ||
         as(Types<LBFGS, LBFGSOptions, LBFGSParamState>());
}

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

bool has_state(const Optimizer& optimizer) {
  return dynamic_cast<const Stateful*>(&optimizer) != nullptr || with_types(optimizer, [](auto) {});
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
  with_types(optimizer, [&]<class TheTypes>(TheTypes) {
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
} catch (const StateError& error) {
  throw CheckpointError(concat(what, ": ", error.what()));
}

}  // namespace torch_accelerated
