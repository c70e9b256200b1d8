// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/text.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using torch::nn::BatchNorm1dImpl;
using torch::nn::BatchNorm2dImpl;
using torch::nn::BatchNorm3dImpl;
using torch::nn::Module;

template <class Norm>
std::shared_ptr<SyncBatchNormImpl> in_place_of_a(const Module& module) {
  // A derived class may do anything else.
  if (typeid(module) != typeid(Norm)) return nullptr;
  return std::make_shared<SyncBatchNormImpl>(static_cast<const Norm&>(module));
}

/// The layer to put in the place of `module`; null where it is no BatchNorm.
std::shared_ptr<SyncBatchNormImpl> in_place_of(const Module& module) {
  if (auto layer = in_place_of_a<BatchNorm1dImpl>(module)) return layer;
  if (auto layer = in_place_of_a<BatchNorm2dImpl>(module)) return layer;
  return in_place_of_a<BatchNorm3dImpl>(module);
}

bool is_batch_norm(const Module& module) {
  return module.as<BatchNorm1dImpl>() || module.as<BatchNorm2dImpl>() ||
         module.as<BatchNorm3dImpl>();
}

class Conversion {
 public:
  /// Finds what is to be replaced; changes nothing.
  void visit(Module& module, const std::string& path) {
    if (!visited_.insert(&module).second) return;
    auto* sequential = module.as<torch::nn::SequentialImpl>();
    for (const auto& child : module.named_children()) {
      if (!child.value()) continue;
      const auto child_path = path.empty() ? child.key() : path + "." + child.key();
      if (is_batch_norm(*child.value())) {
        note(sequential, child.key(), child.value(), child_path);
      } else {
        visit(*child.value(), child_path);
      }
    }
  }

  void refuse(const Module& norm, const std::string& path) {
    refused_ += concat(refused_.empty() ? "" : ", ", "'", path, "' (", norm.name(), ")");
  }

  std::int64_t apply() const {
    if (!refused_.empty()) {
      throw ArgumentError(concat("convert_sync_batch_norm: C++ can't replace ", refused_,
                                 ", which no Sequential holds as an element or whose class is "
                                 "derived from BatchNorm; make each of them a SyncBatchNorm in the "
                                 "model's own code; nothing has been converted"));
    }
    for (const auto& place : places_) {
      const auto& layer = layers_.at(place.norm.get());
      for (auto& element : *place.sequential) {
        if (element.ptr() == place.norm) element = torch::nn::AnyModule(layer);
      }
      place.sequential->replace_module(place.name, layer);
    }
    return static_cast<std::int64_t>(layers_.size());
  }

 private:
  struct Place {
    torch::nn::SequentialImpl* sequential;
    std::string name;
    std::shared_ptr<Module> norm;
  };

  void note(torch::nn::SequentialImpl* sequential, const std::string& name,
            const std::shared_ptr<Module>& norm, const std::string& path) {
    auto layer = in_place_of(*norm);
    if (!layer || !sequential || !is_element(*sequential, norm)) return refuse(*norm, path);
    // A layer that stands in several places stays one layer.
    layers_.try_emplace(norm.get(), std::move(layer));
    places_.push_back({sequential, name, norm});
  }

  static bool is_element(torch::nn::SequentialImpl& sequential,
                         const std::shared_ptr<Module>& module) {
    return std::any_of(sequential.begin(), sequential.end(),
                       [&](const auto& element) { return element.ptr() == module; });
  }

  std::unordered_set<const Module*> visited_;
  std::unordered_map<const Module*, std::shared_ptr<SyncBatchNormImpl>> layers_;
  std::vector<Place> places_;
  std::string refused_;
};

}  // namespace

std::int64_t convert_sync_batch_norm(Module& module) {
  Conversion conversion;
  if (is_batch_norm(module)) conversion.refuse(module, "the model itself");
  conversion.visit(module, "");
  return conversion.apply();
}

std::int64_t convert_sync_batch_norm(const Model& model) {
  return convert_sync_batch_norm(model.module());
}

}  // namespace torch_accelerated
