// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "torch_accelerated/core/torch_forward.h"
#include "torch_accelerated/finetuning/param_groups.h"

namespace torch_accelerated {

/// Layers or groups from one to another, both included; negative indices count from the end.
struct LayerRange {
  std::int64_t from = 0;
  std::int64_t to = -1;
};

/// All but the last: what comes before a model's head.
inline constexpr LayerRange kBackbone{.from = 0, .to = -2};

struct FreezeOptions {
  bool freeze_batch_norms = false;  ///< by default trainable ones stay so, and in their mode
  bool set_as_eval = false;         ///< also puts what is frozen into eval mode
};

/// A layer group or a layer, as it stands.
struct LayerInfo {
  std::string name;
  std::string type;                    ///< such as "Linear"
  std::int64_t parameters = 0;         ///< numbers, those of a tied tensor where it comes first
  std::int64_t trainable = 0;          ///< of them
  bool is_frozen = false;              ///< whether it has parameters and none of them is trainable
  std::vector<LayerInfo> layers = {};  ///< of a group
};

/// Freezes and unfreezes parts of a model: layer groups, which are its direct children, or layers,
/// which are the modules with parameters or buffers of their own, in the order of registration.
///
/// Parameters that the model holds itself belong to its first group; a model without children is a
/// group of its own. A tensor that two parts share is frozen and unfrozen with either. The model
/// outlives the freezer, which keeps nothing of its own.
class ModelFreezer {
 public:
  /// @throws ArgumentError  a model without parameters.
  explicit ModelFreezer(torch::nn::Module& model);

  /// Makes groups untrainable, and drops their gradients so that no optimizer moves them.
  ///
  /// A Trainer's run begins by putting all modules into train mode; `set_frozen_as_eval` is for
  /// what comes after that.
  /// @throws ArgumentError  a range beyond the model, or its end before its beginning; nothing has
  ///                        changed.
  void freeze(LayerRange groups = kBackbone, const FreezeOptions& options = {}) const;
  void freeze_layers(LayerRange layers, const FreezeOptions& options = {}) const;

  /// Makes groups trainable and puts them into the model's own mode.
  /// @return one param group for each layer group with parameters that were not trainable before,
  ///         without options: those of the optimizer that it is added to are the default.
  ParamGroups unfreeze(LayerRange groups = {}) const;
  ParamGroups unfreeze_layers(LayerRange layers) const;

  /// The same with options, such as torch::optim::SGDOptions(0.01).
  ParamGroups unfreeze(LayerRange groups, const torch::optim::OptimizerOptions& options) const;
  ParamGroups unfreeze_layers(LayerRange layers,
                              const torch::optim::OptimizerOptions& options) const;

  /// Puts into eval mode what is frozen of `groups`, and what has no parameters, such as a dropout,
  /// where its group is frozen, or is without parameters and comes after a frozen one. Trainable
  /// BatchNorms keep their mode.
  void set_frozen_as_eval(LayerRange groups = kBackbone) const;

  /// The same range with indices from the beginning.
  /// @throws ArgumentError  as `freeze`.
  LayerRange resolve(LayerRange groups) const;

  /// Each once, for an optimizer's constructor.
  std::vector<torch::Tensor> trainable_parameters() const;

  /// The groups with their layers.
  std::vector<LayerInfo> groups() const;

  /// The layers, in the order in which ranges count them.
  std::vector<LayerInfo> layers() const;

  /// The same as a table: a line for each group, and one for each of its layers.
  std::string describe() const;

 private:
  torch::nn::Module* model_;
};

}  // namespace torch_accelerated
