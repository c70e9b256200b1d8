// SPDX-License-Identifier: Apache-2.0
#include "callbacks/batch_norm_statistics.h"

#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/data/data_loader.h"
#include "trainer/evaluation_mode.h"

namespace torch_accelerated {
namespace {

/// Statistics that several ranks make together count the main process's rows alone for a scope, as
/// all have the same.
class OneRankCounts {
 public:
  explicit OneRankCounts(Accelerator& accelerator) : accelerator_(accelerator) {
    accelerator_.set_rows_count(accelerator_.is_main_process());
  }
  ~OneRankCounts() { accelerator_.set_rows_count(true); }
  OneRankCounts(const OneRankCounts&) = delete;
  OneRankCounts& operator=(const OneRankCounts&) = delete;

 private:
  Accelerator& accelerator_;
};

}  // namespace

template <class Norm>
bool BatchNormStatistics::note(torch::nn::Module& part) {
  auto* norm = part.as<Norm>();
  if (norm == nullptr) return false;
  if (norm->options.track_running_stats()) {
    layers_.push_back({norm, &norm->options.momentum(), norm->running_mean, norm->running_var,
                       norm->num_batches_tracked});
  }
  return true;
}

BatchNormStatistics::BatchNormStatistics(const torch::nn::Module& module) {
  for (const auto& part : module.modules()) {
    note<SyncBatchNormImpl>(*part) || note<torch::nn::BatchNorm1dImpl>(*part) ||
        note<torch::nn::BatchNorm2dImpl>(*part) || note<torch::nn::BatchNorm3dImpl>(*part);
  }
}

void BatchNormStatistics::recompute(const Trainer& trainer, const Dataset& dataset,
                                    std::int64_t batch_size) {
  const torch::NoGradGuard no_grad;
  const EvaluationMode modes({{"", trainer.model()}});
  struct Momenta {
    std::vector<Layer>& layers;
    std::vector<std::optional<double>> own = {};
    explicit Momenta(std::vector<Layer>& of) : layers(of) {
      own.reserve(layers.size());
      for (auto& layer : layers) own.push_back(std::exchange(*layer.momentum, std::nullopt));
    }
    ~Momenta() {
      for (std::size_t i = 0; i < own.size(); ++i) *layers[i].momentum = own[i];
    }
  } const momenta(layers_);
  begin();
  run_over(trainer, dataset, batch_size);
  // Ranks may have rounded otherwise, on other processors.
  auto& accelerator = trainer.accelerator();
  for (const auto& layer : layers_) {
    layer.mean.copy_(accelerator.broadcast(layer.mean));
    layer.variance.copy_(accelerator.broadcast(layer.variance));
  }
}

void BatchNormStatistics::begin() {
  for (const auto& layer : layers_) {
    layer.module->train();
    layer.mean.zero_();
    layer.variance.fill_(1);
    layer.batches.zero_();
  }
}

void BatchNormStatistics::run_over(const Trainer& trainer, const Dataset& dataset,
                                   std::int64_t batch_size) {
  auto& accelerator = trainer.accelerator();
  const OneRankCounts counts(accelerator);
  const auto autocast = accelerator.autocast();
  // A short last batch would weigh as much as a whole one.
  DataLoader loader(dataset, {.batch_size = batch_size,
                              .drop_last = dataset.size() >= batch_size,
                              .device = accelerator.device()});
  while (const auto batch = loader.next()) trainer.model()(accelerator.to_device(*batch));
}

}  // namespace torch_accelerated
