// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/finetuning/model_freezer.h"

#include <torch/torch.h>

#include <algorithm>
#include <span>

#include "base/text.h"
#include "finetuning/model_parts.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

std::string names_of(const std::vector<ModelSlice>& slices) {
  constexpr std::size_t kMost = 12;
  std::string names;
  for (std::size_t i = 0; i < slices.size() && i < kMost; ++i) {
    names += (i == 0 ? "" : ", ") + slices[i].name;
  }
  return slices.size() > kMost ? names + ", ..." : names;
}

// @param what  "layer groups" or "layers"
LayerRange resolved(const std::vector<ModelSlice>& slices, LayerRange range, const char* what) {
  const auto size = static_cast<std::int64_t>(slices.size());
  const auto from = range.from < 0 ? range.from + size : range.from;
  const auto to = range.to < 0 ? range.to + size : range.to;
  const bool is_inside = from >= 0 && from < size && to >= 0 && to < size;
  if (is_inside && from <= to) return {from, to};
  const auto problem =
      is_inside ? std::string("ends before it begins; give the earlier index as `from`")
                : concat("goes beyond the model; indices go from ", -size, " to ", size - 1);
  throw ArgumentError(concat("ModelFreezer: the range [", range.from, ", ", range.to, "] of ", what,
                             " ", problem, "; the model has ", size, ": ", names_of(slices)));
}

std::span<const ModelSlice> slices_in(const std::vector<ModelSlice>& slices, LayerRange range,
                                      const char* what) {
  const auto [from, to] = resolved(slices, range, what);
  return std::span(slices).subspan(static_cast<std::size_t>(from),
                                   static_cast<std::size_t>(to - from + 1));
}

// The module alone, its children staying in their modes.
void set_mode(torch::nn::Module& module, bool is_training) {
  const auto children = module.modules(/*include_self=*/false);
  std::vector<bool> modes;
  modes.reserve(children.size());
  for (const auto& child : children) modes.push_back(child->is_training());
  module.train(is_training);
  for (std::size_t i = 0; i < children.size(); ++i) children[i]->train(modes[i]);
}

// Whether it has parameters, and an optimizer could move none of them.
bool is_frozen(const ModelPart& part) {
  const auto parameters = part.parameters();
  const auto trainable = [](const torch::Tensor& tensor) { return tensor.requires_grad(); };
  return !parameters.empty() && std::none_of(parameters.begin(), parameters.end(), trainable);
}

bool has_parameters(const ModelSlice& slice) {
  return std::any_of(slice.parts.begin(), slice.parts.end(),
                     [](const ModelPart& part) { return !part.parameters().empty(); });
}

// Whether nothing of it trains but BatchNorms, which freezing leaves alone.
bool is_frozen(const ModelSlice& slice) {
  bool has_frozen = false;
  for (const auto& part : slice.parts) {
    if (part.parameters().empty()) continue;
    if (!is_frozen(part) && !is_batch_norm(*part.module)) return false;
    has_frozen |= is_frozen(part);
  }
  return has_frozen;
}

// The model's own mode is the caller's, unless there is nothing else in it.
bool has_own_mode(const ModelPart& part) {
  return part.owner != nullptr || part.module->children().empty();
}

void freeze_slices(std::span<const ModelSlice> slices, const FreezeOptions& options) {
  for (const auto& slice : slices) {
    for (const auto& part : slice.parts) {
      const bool is_kept = is_batch_norm(*part.module) && !is_frozen(part);
      if (is_kept && !options.freeze_batch_norms) continue;
      for (const auto& parameter : part.parameters()) {
        parameter.requires_grad_(false);
        parameter.mutable_grad().reset();
      }
      if (options.set_as_eval && has_own_mode(part)) set_mode(*part.module, false);
    }
  }
}

ParamGroups unfreeze_slices(std::span<const ModelSlice> slices, bool is_training) {
  ParamGroups groups;
  for (const auto& slice : slices) {
    std::vector<torch::Tensor> thawed;
    for (const auto& part : slice.parts) {
      if (part.owner != nullptr) set_mode(*part.module, is_training);
      for (const auto& parameter : part.parameters()) {
        if (parameter.requires_grad() ||
            !torch::autograd::isDifferentiableType(parameter.scalar_type())) {
          continue;
        }
        parameter.requires_grad_(true);
        thawed.push_back(parameter);
      }
    }
    if (!thawed.empty()) groups.emplace_back(std::move(thawed));
  }
  return groups;
}

ParamGroups with_options(ParamGroups groups, const torch::optim::OptimizerOptions& options) {
  for (auto& group : groups) group.set_options(options.clone());
  return groups;
}

LayerInfo info_of(const ModelSlice& slice, SeenTensors& seen) {
  LayerInfo info{.name = slice.name, .type = slice.type};
  bool has_any = false;
  bool has_trainable = false;
  for (const auto& part : slice.parts) {
    for (const auto& parameter : part.parameters()) {
      has_any = true;
      has_trainable |= parameter.requires_grad();
      if (!seen.add(parameter)) continue;
      info.parameters += parameter.numel();
      if (parameter.requires_grad()) info.trainable += parameter.numel();
    }
  }
  info.is_frozen = has_any && !has_trainable;
  return info;
}

}  // namespace

ModelFreezer::ModelFreezer(torch::nn::Module& model) : model_(&model) {
  if (!model.parameters().empty()) return;
  throw ArgumentError(concat("ModelFreezer: the model, a ", short_type(model),
                             ", has no parameters; give one whose parts are registered with "
                             "register_module() or register_parameter()"));
}

void ModelFreezer::freeze(LayerRange groups, const FreezeOptions& options) const {
  freeze_slices(slices_in(layer_groups(*model_), groups, "layer groups"), options);
}

void ModelFreezer::freeze_layers(LayerRange layers, const FreezeOptions& options) const {
  const auto all = layers_of(layer_groups(*model_));
  freeze_slices(slices_in(all, layers, "layers"), options);
}

LayerRange ModelFreezer::resolve(LayerRange groups) const {
  return resolved(layer_groups(*model_), groups, "layer groups");
}

void ModelFreezer::set_frozen_as_eval(LayerRange groups) const {
  const auto all = layer_groups(*model_);
  bool is_whole = true;
  for (const auto& group : slices_in(all, groups, "layer groups")) {
    if (has_parameters(group)) is_whole = is_frozen(group);
    for (const auto& part : group.parts) {
      const bool follows = part.parameters().empty() && !is_batch_norm(*part.module) && is_whole;
      if ((follows || is_frozen(part)) && has_own_mode(part)) set_mode(*part.module, false);
    }
  }
}

ParamGroups ModelFreezer::unfreeze(LayerRange groups) const {
  const auto all = layer_groups(*model_);
  return unfreeze_slices(slices_in(all, groups, "layer groups"), model_->is_training());
}

ParamGroups ModelFreezer::unfreeze_layers(LayerRange layers) const {
  const auto all = layers_of(layer_groups(*model_));
  return unfreeze_slices(slices_in(all, layers, "layers"), model_->is_training());
}

ParamGroups ModelFreezer::unfreeze(LayerRange groups,
                                   const torch::optim::OptimizerOptions& options) const {
  return with_options(unfreeze(groups), options);
}

ParamGroups ModelFreezer::unfreeze_layers(LayerRange layers,
                                          const torch::optim::OptimizerOptions& options) const {
  return with_options(unfreeze_layers(layers), options);
}

std::vector<torch::Tensor> ModelFreezer::trainable_parameters() const {
  std::vector<torch::Tensor> trainable;
  SeenTensors seen;
  for (const auto& parameter : model_->parameters()) {
    if (parameter.requires_grad() && seen.add(parameter)) trainable.push_back(parameter);
  }
  return trainable;
}

std::vector<LayerInfo> ModelFreezer::groups() const {
  std::vector<LayerInfo> infos;
  SeenTensors of_groups;
  SeenTensors of_layers;
  const auto slices = layer_groups(*model_);
  infos.reserve(slices.size());
  for (const auto& slice : slices) {
    infos.push_back(info_of(slice, of_groups));
    for (const auto& layer : layers_of({slice})) {
      infos.back().layers.push_back(info_of(layer, of_layers));
    }
  }
  return infos;
}

std::vector<LayerInfo> ModelFreezer::layers() const {
  std::vector<LayerInfo> infos;
  for (auto& group : groups()) {
    for (auto& layer : group.layers) infos.push_back(std::move(layer));
  }
  return infos;
}

}  // namespace torch_accelerated
