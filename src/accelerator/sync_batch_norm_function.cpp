// SPDX-License-Identifier: Apache-2.0
#include "accelerator/sync_batch_norm_function.h"

#include <torch/torch.h>

#include <array>
#include <numeric>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::detail {
namespace {

/// Where the channels of a batch lie.
struct Channels {
  explicit Channels(const torch::Tensor& batch)
      : count(batch.size(1)),
        others(static_cast<std::size_t>(batch.dim() - 1)),
        shape(static_cast<std::size_t>(batch.dim()), 1) {
    std::iota(others.begin(), others.end(), 1);
    others.front() = 0;
    shape[1] = count;
    for (const auto dim : others) values *= batch.size(dim);
  }

  torch::Tensor spread(const torch::Tensor& channels) const { return channels.view(shape); }
  torch::Tensor sum(const torch::Tensor& batch) const { return batch.sum(others); }
  torch::Tensor mean(const torch::Tensor& batch) const {
    // The mean over nothing would be NaN, and nothing times NaN too.
    return values > 0 ? batch.mean(others) : batch.sum(others);
  }

  std::int64_t count;
  std::int64_t values = 1;           // for each channel
  std::vector<std::int64_t> others;  // the dimensions to reduce
  std::vector<std::int64_t> shape;   // (1, C, 1, ...)
};

torch::ScalarType computed_in(const torch::Tensor& batch) {
  return batch.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

/// All ranks' (1 + 2 C) numbers: (ranks, 1 + 2 C).
torch::Tensor gather_numbers(const torch::Tensor& numbers, Communicator& communicator) {
  const auto parts = communicator.all_gather(numbers);
  for (std::size_t rank = 0; rank < parts.size(); ++rank) {
    if (parts[rank].numel() == numbers.numel()) continue;
    throw CommunicationError(
        concat("SyncBatchNorm: rank ", rank, " ran a layer of ", (parts[rank].numel() - 1) / 2,
               " channels while this one (rank ", communicator.rank(), ") ran one of ",
               (numbers.numel() - 1) / 2, "; all ranks run the same layers in the same order"),
        ExitCode::kMismatch);
  }
  return torch::stack(parts);
}

void check_count(const torch::Tensor& count, const torch::Tensor& input, int ranks) {
  const auto values = count.item<double>();
  if (values >= 2) return;
  throw ArgumentError(
      concat("SyncBatchNorm: Expected more than 1 value per channel when training, "
             "got ",
             values, " over all ", ranks, " ranks (input of shape ", input.sizes(),
             " on this one); use a larger batch, or eval()"));
}

/// What backward needs besides tensors.
struct Ranks : torch::CustomClassHolder {
  Ranks(std::shared_ptr<Communicator> between, bool count)
      : communicator(std::move(between)), rows_count(count) {}

  std::shared_ptr<Communicator> communicator;
  bool rows_count;
};

class ScaleNormalised : public torch::autograd::Function<ScaleNormalised> {
 public:
  using Tensors = torch::autograd::variable_list;
  using Context = torch::autograd::AutogradContext;

  static torch::Tensor forward(Context* context, const torch::Tensor& input,
                               const std::optional<torch::Tensor>& weight,
                               const std::optional<torch::Tensor>& bias,
                               const NormalisedBatch& batch,
                               const c10::intrusive_ptr<Ranks>& ranks) {
    const Channels channels(input);
    const auto factor = weight ? *weight : torch::Tensor();
    context->save_for_backward({batch.rows, batch.inverse_deviation, batch.count, factor});
    context->saved_data["ranks"] =
        c10::IValue::make_capsule(static_intrusive_pointer_cast<torch::CustomClassHolder>(ranks));
    context->saved_data["dtype"] = input.scalar_type();
    // A copy where there is nothing to scale: what is saved mustn't be changed in place by others.
    if (!weight) return batch.rows.to(input.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    const auto dtype = batch.rows.scalar_type();
    return (batch.rows * channels.spread(weight->to(dtype)))
        .add_(channels.spread(bias->to(dtype)))
        .to(input.scalar_type());
  }

  static Tensors backward(Context* context, Tensors gradients) {
    if (torch::GradMode::is_enabled()) {
      throw StateError(
          "SyncBatchNorm: its backward can't be differentiated again (create_graph was set); "
          "use a normalisation that mixes no rows where a loss contains gradients");
    }
    const auto saved = context->get_saved_variables();
    const auto& rows = saved[0];
    const auto& weight = saved[3];
    const auto ranks = context->saved_data["ranks"].toCapsule();
    const auto& [communicator, rows_count] = unpack(*ranks);
    const Channels channels(rows);

    // A borrowed row's loss has weight 0, but 0 times infinity would be a gradient all the same.
    const auto gradient =
        rows_count ? gradients[0].to(rows.scalar_type()) : torch::zeros_like(rows);
    const auto sum = channels.sum(gradient);
    const auto sum_of_products = channels.sum(gradient * rows);

    Tensors results(5);
    if (context->needs_input_grad(0)) {
      const auto means =
          sum_over_ranks(torch::stack({sum, sum_of_products}), *communicator) / saved[2];
      const auto slope = weight.defined() ? saved[1] * weight.to(rows.scalar_type()) : saved[1];
      results[0] = input_gradient(gradient, rows, means.to(rows.scalar_type()), slope, rows_count)
                       .to(context->saved_data["dtype"].toScalarType());
    }
    if (weight.defined()) {
      results[1] = sum_of_products.to(weight.scalar_type());
      results[2] = sum.to(weight.scalar_type());
    }
    return results;
  }

 private:
  static std::pair<Communicator*, bool> unpack(const torch::CustomClassHolder& holder) {
    const auto& ranks = static_cast<const Ranks&>(holder);
    return {ranks.communicator.get(), ranks.rows_count};
  }

  static torch::Tensor sum_over_ranks(const torch::Tensor& sums, Communicator& communicator) {
    std::array<torch::Tensor, 1> total{sums.to(torch::kFloat64)};
    communicator.all_reduce(total);
    return total.front();
  }

  // The mean and the deviation don't depend on a row that isn't counted.
  static torch::Tensor input_gradient(const torch::Tensor& gradient, const torch::Tensor& rows,
                                      const torch::Tensor& means, const torch::Tensor& slope,
                                      bool rows_count) {
    if (!rows_count) return gradient;
    const Channels channels(rows);
    return (rows * channels.spread(-means[1]))
        .add_(gradient)
        .sub_(channels.spread(means[0]))
        .mul_(channels.spread(slope));
  }
};

std::optional<torch::Tensor> if_defined(const torch::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

}  // namespace

NormalisedBatch normalise_over_ranks(const torch::Tensor& input, double eps,
                                     Communicator& communicator, bool rows_count) {
  const torch::NoGradGuard no_grad;
  const Channels channels(input);
  const auto dtype = computed_in(input);
  const auto x = input.detach().to(dtype);

  // Sums are taken of differences from a rounded mean, so that a mean far from zero costs no
  // digits; what the rounding misses is added below.
  const auto shift = channels.mean(x);
  auto rows = x - channels.spread(shift);
  const auto missed = channels.mean(rows).to(torch::kFloat64);
  const auto own_mean = shift.to(torch::kFloat64) + missed;
  const auto own_squares = channels.sum(rows.square()).to(torch::kFloat64) -
                           static_cast<double>(channels.values) * missed.square();

  const auto own_count = rows_count ? channels.values : 0;
  const auto options = own_mean.options();
  const auto all = gather_numbers(
      rows_count ? torch::cat({torch::full({1}, static_cast<double>(own_count), options), own_mean,
                               own_squares})
                 : torch::zeros({1 + 2 * channels.count}, options),
      communicator);
  const auto counts = all.narrow(1, 0, 1);
  const auto means = all.narrow(1, 1, channels.count);
  const auto squares = all.narrow(1, 1 + channels.count, channels.count);
  const auto count = counts.sum();
  // Only then can all ranks together have fewer than two, and a device isn't waited for otherwise.
  if (own_count < 2) check_count(count, input, communicator.size());

  const auto mean = (counts * means).sum(0) / count;
  const auto all_squares = (squares + counts * (means - mean).square()).sum(0);
  const auto inverse_deviation = (all_squares / count + eps).rsqrt().to(dtype);
  rows.add_(channels.spread((shift.to(torch::kFloat64) - mean).to(dtype)))
      .mul_(channels.spread(inverse_deviation));
  return {rows, inverse_deviation, mean, all_squares / (count - 1), count};
}

torch::Tensor scale_normalised(const torch::Tensor& input, const torch::Tensor& weight,
                               const torch::Tensor& bias, const NormalisedBatch& batch,
                               std::shared_ptr<Communicator> communicator, bool rows_count) {
  return ScaleNormalised::apply(input, if_defined(weight), if_defined(bias), batch,
                                c10::make_intrusive<Ranks>(std::move(communicator), rows_count));
}

}  // namespace torch_accelerated::detail
