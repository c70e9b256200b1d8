// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/run_config.h"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "base/text.h"

namespace torch_accelerated {
namespace {

template <class Value>
std::string text_of(const Value& value) {
  return concat(value);
}

std::string text_of(const std::optional<bool>& value) {
  return value ? (*value ? "yes" : "no") : "-";
}

std::string text_of(NonFinite policy) { return to_string(policy); }

std::string text_of(const std::map<std::int64_t, std::int64_t>& schedule) {
  std::string text;
  for (const auto& [epoch, steps] : schedule) {
    text += concat(text.empty() ? "" : ", ", steps, " from epoch ", epoch);
  }
  return text.empty() ? "-" : text;
}

template <class Value>
std::string text_of(const std::optional<Value>& value) {
  return value ? concat(*value) : "-";
}

}  // namespace

const char* to_string(NonFinite policy) {
  switch (policy) {
    case NonFinite::kThrow:
      return "throw";
    case NonFinite::kStop:
      return "stop";
    case NonFinite::kSkip:
      return "skip";
  }
  return "unknown";
}

std::int64_t RunConfig::accumulation_steps(std::int64_t epoch) const noexcept {
  const auto next = accumulation_schedule.upper_bound(epoch);
  return next == accumulation_schedule.begin() ? gradient_accumulation_steps
                                               : std::prev(next)->second;
}

std::vector<std::pair<std::string, std::string>> RunConfig::fields() const {
  return {{"epochs", text_of(num_epochs)},
          {"training rows", text_of(train_rows)},
          {"evaluation rows", text_of(eval_rows)},
          {"per-device batch size", text_of(per_device_batch_size)},
          {"global batch size", text_of(global_batch_size)},
          {"evaluation batch size", text_of(eval_per_device_batch_size)},
          {"shuffle", text_of(shuffle)},
          {"drop last", text_of(drop_last)},
          {"gradient accumulation steps", text_of(gradient_accumulation_steps)},
          {"accumulation schedule", text_of(accumulation_schedule)},
          {"batches per epoch", text_of(batches_per_epoch)},
          {"updates per epoch", text_of(updates_per_epoch)},
          {"max updates", text_of(max_updates)},
          {"total updates", text_of(total_updates)},
          {"training batch limit", text_of(limit_train_batches)},
          {"evaluation batch limit", text_of(limit_eval_batches)},
          {"sanity evaluation batches", text_of(sanity_eval_batches)},
          {"overfit batches", text_of(overfit_batches)},
          {"clip gradient norm", text_of(clip_gradient_norm)},
          {"clip gradient value", text_of(clip_gradient_value)},
          {"track gradient norm", track_gradient_norm ? "yes" : "no"},
          {"non-finite loss", text_of(non_finite)},
          {"seed", text_of(seed)},
          {"device", device},
          {"mixed precision", mixed_precision},
          {"world size", text_of(world_size)},
          {"gradient reduction", reduction},
          {"deterministic shards", deterministic_shards > 0 ? text_of(deterministic_shards) : "-"},
          {"arithmetic", arithmetic.empty() ? "-" : arithmetic},
          {"memory", memory},
          {"optimizers", optimizers},
          {"optimizer steps", optimizer_steps},
          {"scheduler", scheduler},
          {"trainable parameters", text_of(parameters)}};
}

std::string RunConfig::table() const {
  const auto rows = fields();
  std::size_t width = 0;
  for (const auto& [name, value] : rows) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, value] : rows) {
    text += concat("  ", name, std::string(width - name.size() + 2, ' '), value, "\n");
  }
  return text;
}

}  // namespace torch_accelerated
