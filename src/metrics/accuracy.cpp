// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/metrics/accuracy.h"

#include <torch/torch.h>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

void check_shapes(const torch::Tensor& scores, const torch::Tensor& target, std::int64_t top_k) {
  const bool fits = scores.dim() == 2 && target.dim() == 1 && scores.size(0) == target.size(0);
  if (!fits) {
    throw ArgumentError(concat("accuracy: scores have shape ", scores.sizes(), ", classes ",
                               target.sizes(), "; wanted are (rows, classes) and (rows)"));
  }
  if (top_k > scores.size(1)) {
    throw ArgumentError(concat("accuracy: top_k is ", top_k, ", but there are only ",
                               scores.size(1), " classes; lower it"));
  }
}

}  // namespace

Metric accuracy(AccuracyOptions options) {
  OptionCheck("accuracy")
      .require(options.top_k >= 1, concat("top_k must be >= 1, got ", options.top_k))
      .throw_if_any();
  return [options](const TensorDict& outputs, const Batch& batch) {
    const auto& scores = options.output.empty() ? outputs.only() : outputs[options.output];
    const auto& target = batch[options.target];
    check_shapes(scores, target, options.top_k);
    const auto best = options.top_k == 1 ? scores.argmax(1, /*keepdim=*/true)
                                         : std::get<1>(scores.topk(options.top_k, 1));
    const auto hits = best.eq(target.unsqueeze(1)).sum();
    return Mean(hits, torch::full({}, scores.size(0), hits.options()));
  };
}

}  // namespace torch_accelerated
