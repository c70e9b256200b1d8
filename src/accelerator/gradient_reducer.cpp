// SPDX-License-Identifier: Apache-2.0
#include "accelerator/gradient_reducer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "accelerator/word_copy.h"
#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// Where things stand in the word. Each rank has a place of its own for its status, so that a sum
// keeps them apart.
constexpr std::int64_t kLoss = 0;
constexpr std::int64_t kWeight = 1;
constexpr std::int64_t kStatuses = 2;

constexpr unsigned kTriggers = 0xFFFF;
constexpr unsigned kNotFinite = 1U << 16;
constexpr unsigned kHasGradient = 1U << 17;

std::optional<torch::Dtype> dtype_of(GradientCompression compression) {
  switch (compression) {
    case GradientCompression::kBf16:
      return torch::kBFloat16;
    case GradientCompression::kFp16:
      return torch::kHalf;
    case GradientCompression::kNone:
      break;
  }
  return std::nullopt;
}

RankStatus unpacked(double packed) {
  const auto bits = static_cast<unsigned>(packed);
  return {bits & kTriggers, (bits & kNotFinite) != 0, (bits & kHasGradient) != 0};
}

}  // namespace

GradientReducer::GradientReducer(std::vector<torch::Tensor> parameters, Communicator& communicator,
                                 BufferPool& pool, const AcceleratorOptions& options,
                                 std::function<std::string(const torch::Tensor&)> name_of,
                                 Order order)
    : communicator_(communicator),
      pool_(pool),
      unused_(options.unused_parameters),
      bucket_bytes_(options.bucket_bytes),
      compressed_(dtype_of(options.gradient_compression)),
      overlaps_(options.overlap == Overlap::kOn),
      name_of_(std::move(name_of)),
      asked_(std::move(parameters)),
      order_(std::move(order)) {
  const auto length = kStatuses + communicator.size() + static_cast<std::int64_t>(asked_.size());
  host_word_ = torch::zeros({length}, torch::kFloat64);
  const auto device = asked_.empty() ? torch::Device(torch::kCPU) : asked_.front().device();
  word_ = pool.take(length, torch::empty({0}, host_word_.options().device(device)));
  if (!overlaps_ || order_.size() != asked_.size()) order_.clear();
  make_buckets();
}

bool GradientReducer::is_of(std::span<const torch::Tensor> parameters) const {
  return std::equal(parameters.begin(), parameters.end(), asked_.begin(), asked_.end(),
                    [](const torch::Tensor& a, const torch::Tensor& b) { return a.is_same(b); });
}

// Parameters that had no gradient when the order was found follow as they are.
void GradientReducer::make_buckets() {
  hooks_.reset();
  wire_.reset();
  buckets_.reset();
  parameters_.clear();
  Order whole;
  std::vector<bool> placed(asked_.size());
  const auto place = [&](std::size_t index) {
    if (index >= asked_.size() || placed[index]) return;
    placed[index] = true;
    whole.push_back(index);
    parameters_.push_back(asked_[index]);
  };
  for (const std::size_t index : order_) place(index);
  for (std::size_t index = 0; index < asked_.size(); ++index) place(index);
  if (!order_.empty()) order_ = std::move(whole);
  buckets_.emplace(pool_, parameters_, bucket_bytes_);
  wire_.emplace(pool_, buckets_->flats(), compressed_);
  if (!overlaps_) return;
  ready_.emplace(buckets_->bucket_of(), buckets_->flats().size());
  hooks_.emplace(parameters_, [this](std::size_t index) { note_gradient(index); });
}

GradientReducer::~GradientReducer() {
  // Nothing waits here: what may still be written to by a reduction is not used again.
  if (!pending_.empty()) {
    wire_->keep();
    buckets_->keep();
    return;
  }
  pool_.give_back(word_);
}

void GradientReducer::begin_window() {
  // Of a window that was dropped with reductions under way.
  for (const auto& operation : pending_) operation->wait();
  pending_.clear();
  armed_ = false;
  buckets_->attach();
  shards_.clear();
  by_tree_ = false;
  if (ready_) ready_->begin();
}

void GradientReducer::begin_last_backward() {
  if (!pending_.empty()) {
    throw StateError(
        "backward: it was called twice for a window's last micro-batch, when gradients were on "
        "their "
        "way already; add the losses up, or set overlap to Overlap::kOff");
  }
  if (ready_) ready_->begin();
  armed_ = overlaps_;
}

void GradientReducer::note_gradient(std::size_t index) {
  if (!armed_) return;
  buckets_->collect(index);  // where zero_grad() has removed the view
  ready_->note(index);
  // The first update shows the order, which all ranks then share.
  std::size_t bucket = 0;
  while (!order_.empty() && ready_->take(bucket)) start(bucket);
}

void GradientReducer::start(std::size_t bucket) {
  pending_.push_back(communicator_.start_all_reduce(wire_->pack(bucket)));
}

// Reduces what has not been started, and the word in one submission with the last bucket; that one
// is what it gives.
std::unique_ptr<Pending> GradientReducer::finish() {
  const auto count = buckets_->flats().size();
  std::size_t first = 0;
  if (overlaps_ && !by_tree_) {
    for (first = ready_->next(); first + 1 < count; ++first) start(first);
  }
  armed_ = false;
  std::vector<torch::Tensor> rest;
  for (std::size_t bucket = first; bucket < count; ++bucket) {
    rest.push_back(wire_->pack(bucket).front());
  }
  rest.push_back(word_);
  pending_.push_back(
      communicator_.start_all_reduce(rest, by_tree_ ? SumOrder::kPairwise : SumOrder::kRankOrder));
  auto with_word = std::move(pending_.back());
  pending_.pop_back();
  for (const auto& operation : pending_) operation->wait();
  pending_.clear();
  return with_word;
}

// Rank 0's order of readiness becomes that of the buckets on all ranks.
void GradientReducer::agree_on_order() {
  if (!overlaps_ || !order_.empty()) return;
  std::vector<std::int64_t> order(ready_->seen().begin(), ready_->seen().end());
  std::string bytes(reinterpret_cast<const char*>(order.data()),
                    order.size() * sizeof(std::int64_t));
  communicator_.broadcast(bytes, 0);
  order_.resize(bytes.size() / sizeof(std::int64_t));
  for (std::size_t i = 0; i < order_.size(); ++i) {
    std::int64_t index = 0;
    std::memcpy(&index, bytes.data() + i * sizeof index, sizeof index);
    order_[i] = static_cast<std::size_t>(index);
  }
  make_buckets();
}

void GradientReducer::end_shard() {
  const torch::NoGradGuard no_grad;
  by_tree_ = true;
  Flats shard;
  for (auto& flat : buckets_->flats()) {
    shard.push_back(flat.clone());
    flat.zero_();
  }
  shards_.push(std::move(shard));
}

GradientReducer::Outcome GradientReducer::reduce(const WindowSums& mine, const RankStatus& status) {
  const torch::NoGradGuard no_grad;
  if (by_tree_) {
    const auto sum = shards_.take();
    for (std::size_t i = 0; i < sum.size(); ++i) buckets_->flats()[i].copy_(sum[i]);
  } else {
    buckets_->collect();
  }
  write_word(mine, status);
  finish()->wait_on_host();  // the host is about to read it, and not for longer than the timeout
  wire_->unpack();
  host_word_.copy_(word_);
  lacked_any_ = !has_all_gradients();
  const std::span<const double> word(host_word_.const_data_ptr<double>(),
                                     static_cast<std::size_t>(host_word_.numel()));
  drop_unused(word);
  check_unused(word);
  agree_on_order();
  return read_word(word, communicator_.size());
}

std::pair<torch::Tensor, std::unique_ptr<Pending>> GradientReducer::reduce_late(
    const torch::Tensor& sums, const torch::Tensor& status) {
  const torch::NoGradGuard no_grad;
  buckets_->collect();
  write_word(sums, status);
  auto with_word = finish();
  with_word->wait();
  wire_->unpack();
  if (word_.is_cpu()) with_word.reset();  // it is there
  lacked_any_ = !has_all_gradients();
  // Whether any other rank has it is for this rank alone to know: nothing waits for it in turn.
  if (lacked_any_) drop_unused(WordCopy(word_, std::exchange(with_word, nullptr)).read());
  return {word_, std::move(with_word)};
}

std::vector<bool> GradientReducer::has_gradient() const {
  std::vector<bool> has(parameters_.size());
  for (std::size_t i = 0; i < has.size(); ++i) has[i] = buckets_->has_gradient(i);
  return has;
}

bool GradientReducer::has_all_gradients() const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!buckets_->has_gradient(i)) return false;
  }
  return true;
}

void GradientReducer::write_word(const WindowSums& mine, const RankStatus& status) {
  auto* word = host_word_.mutable_data_ptr<double>();
  std::fill(word, word + host_word_.numel(), 0.0);
  word[kLoss] = mine.loss;
  word[kWeight] = mine.weight;
  word[kStatuses + communicator_.rank()] = packed(status);
  double* counts = word + kStatuses + communicator_.size();
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    counts[i] = buckets_->has_gradient(i) ? 1 : 0;
  word_.copy_(host_word_);
}

void GradientReducer::write_word(const torch::Tensor& sums, const torch::Tensor& status) {
  word_.zero_();
  word_.narrow(0, kLoss, 2).copy_(sums);
  const auto bad = torch::isfinite(sums).all().logical_not();
  word_.select(0, kStatuses + communicator_.rank())
      .copy_(status.add(bad, static_cast<double>(kNotFinite)));
  const auto counts = word_.narrow(0, kStatuses + communicator_.size(),
                                   static_cast<std::int64_t>(parameters_.size()));
  counts.fill_(1);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!buckets_->has_gradient(i)) counts.select(0, static_cast<std::int64_t>(i)).zero_();
  }
}

double GradientReducer::packed(const RankStatus& status) {
  return static_cast<double>((status.triggers & kTriggers) | (status.not_finite ? kNotFinite : 0U) |
                             (status.has_gradient ? kHasGradient : 0U));
}

GradientReducer::Outcome GradientReducer::read_word(std::span<const double> word, int ranks) {
  Outcome outcome{{word[kLoss], word[kWeight]}, {}};
  for (int rank = 0; rank < ranks; ++rank) {
    outcome.ranks.push_back(unpacked(word[static_cast<std::size_t>(kStatuses + rank)]));
  }
  return outcome;
}

// A parameter that no rank reached keeps no gradient, as in one process; one that some reached has
// theirs, as in one process too.
void GradientReducer::drop_unused(std::span<const double> word) {
  const auto counts = word.subspan(static_cast<std::size_t>(kStatuses + communicator_.size()));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (counts[i] == 0) buckets_->drop(i);
  }
}

void GradientReducer::check_unused(std::span<const double> word) const {
  if (unused_ == UnusedParameters::kZero) return;
  const auto counts = word.subspan(static_cast<std::size_t>(kStatuses + communicator_.size()));
  double expected = 0;
  for (const auto& rank : read_word(word, communicator_.size()).ranks)
    expected += rank.has_gradient ? 1 : 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (counts[i] == 0 || counts[i] >= expected) continue;
    ArgumentError error(concat("parameter '", name_of_(parameters_[i]), "' got a gradient on ",
                               counts[i], " of ", expected,
                               " ranks; use it in each rank's loss, or set unused_parameters to "
                               "UnusedParameters::kZero"));
    error.set_on_all_ranks();
    throw error;
  }
}

}  // namespace torch_accelerated
