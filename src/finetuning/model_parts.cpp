// SPDX-License-Identifier: Apache-2.0
#include "finetuning/model_parts.h"

namespace torch_accelerated {
namespace {

using Visited = std::unordered_set<const torch::nn::Module*>;

void collect(const std::string& name, const std::shared_ptr<torch::nn::Module>& module,
             Visited& visited, std::vector<ModelPart>& parts) {
  if (!visited.insert(module.get()).second) return;
  parts.push_back({name, module.get(), module});
  for (const auto& child : module->named_children()) {
    collect(name + "." + child.key(), child.value(), visited, parts);
  }
}

}  // namespace

bool ModelPart::has_tensors() const {
  return !module->parameters(/*recurse=*/false).empty() ||
         !module->buffers(/*recurse=*/false).empty();
}

std::vector<ModelSlice> layer_groups(const torch::nn::Module& model) {
  // Freezing changes tensors and modes, which LibTorch's const accessors hand out as well.
  const ModelPart itself{"(model)", const_cast<torch::nn::Module*>(&model), nullptr};
  std::vector<ModelSlice> groups;
  const auto children = model.named_children();
  groups.reserve(children.size() + 1);
  for (const auto& child : children) {
    ModelSlice group{child.key(), short_type(*child.value()), {}};
    if (groups.empty() && itself.has_tensors()) group.parts.push_back(itself);
    Visited visited;
    collect(child.key(), child.value(), visited, group.parts);
    groups.push_back(std::move(group));
  }
  if (groups.empty()) groups.push_back({itself.name, short_type(model), {itself}});
  return groups;
}

std::vector<ModelSlice> layers_of(const std::vector<ModelSlice>& groups) {
  std::vector<ModelSlice> layers;
  for (const auto& group : groups) {
    for (const auto& part : group.parts) {
      if (part.has_tensors()) layers.push_back({part.name, short_type(*part.module), {part}});
    }
  }
  return layers;
}

std::string short_type(const torch::nn::Module& module) {
  std::string type = module.name();
  // Of a template, what stands before its arguments.
  if (const auto arguments = type.find('<'); arguments != std::string::npos) type.erase(arguments);
  if (const auto last = type.rfind("::"); last != std::string::npos) type.erase(0, last + 2);
  if (type.ends_with("Impl")) type.erase(type.size() - 4);
  return type;
}

bool is_batch_norm(const torch::nn::Module& module) {
  using namespace torch::nn;
  return module.as<BatchNorm1dImpl>() != nullptr || module.as<BatchNorm2dImpl>() != nullptr ||
         module.as<BatchNorm3dImpl>() != nullptr ||
         short_type(module).find("BatchNorm") != std::string::npos;
}

// By name where it is none of LibTorch's: programs write RMSNorms of their own.
bool is_norm(const torch::nn::Module& module) {
  using namespace torch::nn;
  return is_batch_norm(module) || module.as<LayerNormImpl>() != nullptr ||
         module.as<GroupNormImpl>() != nullptr || module.as<InstanceNorm1dImpl>() != nullptr ||
         module.as<InstanceNorm2dImpl>() != nullptr || module.as<InstanceNorm3dImpl>() != nullptr ||
         short_type(module).ends_with("Norm");
}

}  // namespace torch_accelerated
